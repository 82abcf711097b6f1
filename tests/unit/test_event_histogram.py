"""The text of ``hist`` files (as Linux 6.12 prints them) as values, tables and plots."""

import pytest

from harken.base.errors import UsageError
from harken.formats.event_histogram import parse_histograms
from harken.render.event_histogram import plot_text, summary_text, table_text
from harken.session.ftrace_histogram import trigger_text


def text(keys, rows, values="hitcount", more=""):
    return (
        f"# event histogram\n#\n# trigger info: hist:keys={keys}:vals={values}:sort=hitcount:size=2048{more} [active]\n#\n\n"
        + rows
        + "\nTotals:\n    Hits: 10\n    Entries: 2\n    Dropped: 1\n"
    )


def test_modifiers():
    found = parse_histograms(
        text(
            "call_site.sym,common_pid.execname,id.syscall",
            "{ call_site: [ffffffff812548c1] hist_trigger_elt_data_alloc                  , common_pid: a, b            [       166], "
            "id: sys_prlimit64                 [302] } hitcount:       4096\n",
        )
    )[0]
    assert found.columns() == {
        "call_site": [0xFFFFFFFF812548C1], "call_site.sym": ["hist_trigger_elt_data_alloc"], "common_pid": [166],
        "common_pid.execname": ["a, b"], "id": [302], "id.syscall": ["sys_prlimit64"], "hitcount": [4096],
    }  # fmt: skip
    assert (found.hits, found.dropped, found.active, found.total, len(found)) == (10, 1, True, 4096, 1)


def test_ranges_percentages_and_bars():
    rows = (
        "{ bytes_req: ~ 576-639 } hitcount:          7  hitcount (%):   0.25  hitcount:                     \n"
        "{ bytes_req: ~ 64-127 } hitcount:        791  hitcount (%):  29.18  hitcount: ####                \n"
    )
    found = parse_histograms(text("bytes_req.buckets=64", rows, "hitcount,hitcount.percent,hitcount.graph"))[0]
    assert [row.values for row in found] == [(7, 0.25, 0), (791, 29.18, 4)]
    assert found.columns()["bytes_req"] == [576, 64] and found.columns()["bytes_req.last"] == [639, 127]
    lines = plot_text(found).split("\n")
    assert lines[0].startswith("[64, 127]") and lines[1].startswith("[128, 191]") and lines[1].rstrip().endswith("|")
    assert lines[8].startswith("[576, 639]") and len(lines) == 10


def test_stacks():
    rows = "{ common_stacktrace:\n         vfs_read+0x10/0x20\n         ksys_read+0x5/0x9\n} hitcount:          3\n"
    for keys, start in (("common_stacktrace", "common_stacktrace:\n"), ("st.stacktrace", "st.stacktrace ")):
        found = parse_histograms(text(keys, rows.replace("common_stacktrace:\n", start)))[0]
        assert found.rows[0].keys[0].text == "vfs_read+0x10/0x20\nksys_read+0x5/0x9" and found.rows[0].values == (3,)
    assert table_text(found) == "ST       HITCOUNT\n(stack)         3\n    vfs_read+0x10/0x20\n    ksys_read+0x5/0x9\n"


def test_what_is_saved_with_a_maximum():
    rows = "{ next_pid:       2255 } hitcount:        239\n\tmax:         27\n\tnext_comm: cyclictest\n\tprev_pid:          0\n"
    row = parse_histograms(text("next_pid", rows, more=":clock=global:wakeup_lat=common_timestamp.usecs-$ts0"))[0].rows[0]
    assert dict(row.saved) == {"max": "27", "next_comm": "cyclictest", "prev_pid": "0"}


def test_several_triggers_and_none():
    assert len(parse_histograms(text("pid", "{ pid:          1 } hitcount:          1\n") * 2)) == 2
    assert parse_histograms("# Available triggers:\n") == []
    assert parse_histograms(text("pid", "{ nonsense\n{ } hitcount: 3\n"))[0].rows == ()


def test_tables_and_their_summary():
    found = parse_histograms(
        text("comm", "{ comm: a                 } hitcount:          2\n{ comm: b                 } hitcount:          8\n")
    )[0]
    assert table_text(found, top=1) == "COMM  HITCOUNT\nb            8\n"
    assert plot_text(found).split("\n")[1].startswith("b                    8 |@@@@")
    assert summary_text(found) == "10 hits in 2 rows, 1 dropped (a larger size keeps them)"


def test_powers_of_two():
    rows = "".join([f"{{ us: ~ 2^{power:<2} }} hitcount:          1\n" for power in (0, 1, 2, 5)])
    found = parse_histograms(text("us.log2", rows))[0]
    assert [(row.keys[0].number, row.keys[0].last) for row in found] == [(1, 1), (2, 2), (3, 4), (17, 32)]
    assert [line.split("  ")[0] for line in plot_text(found).split("\n")[:-1]] == ["1", "2", "[3, 4]", "[5, 8]", "[9, 16]", "[17, 32]"]


def test_triggers_are_written():
    assert (
        trigger_text(["a", "b.log2"], "x,y", "x.descending", 100, "a > 1")
        == "hist:keys=a,b.log2:vals=x,y:sort=x.descending:size=100 if a > 1"
    )
    for wrong in ({"keys": ""}, {"keys": "a,b,c,d"}, {"keys": "a", "sort": "a,b,c"}):
        with pytest.raises(UsageError):
            trigger_text(**wrong)
