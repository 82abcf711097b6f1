"""trace.dat: both versions, compressions, byte orders and sizes of longs, read back; truncated and hostile files."""

from __future__ import annotations

import os
import random
import struct
import tracemalloc
from types import SimpleNamespace

import pytest

from harken.base.errors import FormatError, HarkenError, UsageError
from harken.formats import trace_dat_layout as layout
from harken.formats.print_fmt import Env
from harken.formats.ring_page import parse, parse_layout
from harken.formats.trace_dat import TraceFile, open_trace
from harken.formats.trace_dat_compress import available, codec
from harken.formats.trace_dat_growing import Growing
from harken.formats.trace_dat_pages import PageBuilder
from harken.formats.trace_dat_parts import BufferSource, Parts, sources_of
from harken.formats.trace_dat_symbols import Symbols
from harken.formats.trace_dat_writer import write_trace
from harken.session.recorder_ftrace_markers import has_others
from harken.testing.trace_dat_builder import parts, payload, recording

RECORDS = {
    "": {0: [(1000 + 10 * n, n, 1 + n % 3) for n in range(1000)], 2: [(1 << 40, 5, 2), ((1 << 40) + (1 << 30), 6, 2)]},
    "irqs": {1: [(5000, 77, 9)]},
}
COMPRESSIONS = ["none", *(found.name for found in available())]


def records_of(trace, cpu, buffer=""):
    """(time, value, pid) of a CPU's records."""
    pages = parse_layout(trace.header_page, trace.order, trace.kernel_long)
    found = []
    for page in trace.pages(cpu, buffer):
        for time, start, size in parse(page, layout=pages).records:
            assert size == 12
            number, _, _, pid, value = struct.unpack_from(trace.order + "HBBii", page, start)
            assert number == 7
            found.append((time, value, pid))
    return found


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("long_size", [8, 4])
@pytest.mark.parametrize("version, compression", [(6, "none"), *((7, name) for name in COMPRESSIONS)])
def test_what_is_written_is_read(version, compression, order, long_size):
    trace = TraceFile(recording(RECORDS, version, compression, order, long_size))
    assert (trace.version, trace.order, trace.long_size, trace.kernel_long) == (version, order, long_size, long_size)
    assert trace.problems == [] and trace.cpus == 3 and trace.instances == ("irqs",)
    assert records_of(trace, 0) == RECORDS[""][0]
    assert records_of(trace, 1) == []
    assert records_of(trace, 2) == RECORDS[""][2]
    assert records_of(trace, 1, "irqs") == RECORDS["irqs"][1]
    assert trace.events.find("test:tick") is trace.events[7] and trace.events.find("tick").category == "test"
    assert trace.events.get(8) is None and trace.events.names == {"test:tick": 7} and trace.events.ids == (7,)
    assert [trace.comm(pid) for pid in (0, 1, 9, 1000)] == ["<idle>", "task-1", "task-9", "<...>"]
    assert trace.symbol(0xFFFFFFFF81000008) == "_stext" and trace.symbols.find(0xFFFFFFFFC0000000) == ("load", 0xFFFFFFFFC0000000, "mod")
    assert trace.printk(0xFFFFFFFF82000000) == "hello %d\n"
    assert trace.uname == "Linux test 6.12 x86_64" and trace.written_by == "harken test" and trace.trace_id == 0x1234
    assert trace.clock == "local" and trace.buffer("irqs").clock == "mono"


def test_pages_of_another_size():
    trace = TraceFile(recording({"": {0: [(n, n, 1) for n in range(5000)]}}, compression="zlib", page_size=16384))
    assert trace.buffer().page_size == 16384 and len(records_of(trace, 0)) == 5000
    assert records_of(trace, 0)[-1] == (4999, 4999, 1)
    later = list(trace.pages(0, first=2))
    assert len(later) == len(list(trace.pages(0))) - 2


def test_a_latency_tracers_text(tmp_path):
    for version, compression in ((6, "none"), (7, "none"), (7, "zlib")):
        path = tmp_path / f"{version}{compression}"
        with open(path, "w+b") as stream:
            write_trace(stream.fileno(), parts(), [BufferSource("", "local", 4096, text=b"# tracer: wakeup\n")], version, compression)
        with open_trace(str(path)) as trace:
            assert trace.text() == b"# tracer: wakeup\n"


def test_conversion_keeps_everything(tmp_path):
    first = TraceFile(recording(RECORDS, 6))
    with open(tmp_path / "second", "w+b") as stream:
        write_trace(stream.fileno(), Parts.of(first), [sources_of(first, name) for name in ("", "irqs")], 7, "zlib")
    with open_trace(str(tmp_path / "second")) as second:
        assert records_of(second, 0) == records_of(first, 0) and records_of(second, 1, "irqs") == records_of(first, 1, "irqs")
        assert second.kallsyms == first.kallsyms and second.cmdlines == first.cmdlines and second.trace_id == first.trace_id


def test_a_file_without_a_top_buffer_gets_one():
    trace = TraceFile(recording({"only": {0: [(1, 2, 3)]}}))
    assert [buffer.name for buffer in trace.buffers] == ["", "only"] and records_of(trace, 0, "only") == [(1, 2, 3)]


def test_a_growing_file_is_valid_at_every_moment(tmp_path):
    path = tmp_path / "trace.dat"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        growing = Growing(fd, parts((1,), 2), [("", "local", 4096, (0, 1)), ("foo", "mono", 4096, (0, 1))])
        with open_trace(str(path)) as trace:
            assert trace.problems == [] and trace.instances == ("foo",) and records_of(trace, 0) == []
        builder = PageBuilder(4096)
        for n in range(1000):
            builder.add(n, payload(7, n, 42))
        pages = b"".join(builder.finish())
        for buffer, cpu in (("", 1), ("foo", 0)):
            os.pwrite(fd, pages, growing.places[buffer, cpu])
            growing.update(buffer, cpu, 4096)
        growing.update_cmdlines(b"42 answer\n")
        with open_trace(str(path)) as trace:
            assert len(records_of(trace, 1)) == len(records_of(trace, 0, "foo")) == parse(pages[:4096]).records.__len__()
            assert trace.comm(42) == "answer" and trace.buffer("foo").clock == "mono"
        growing.update("", 1, 4096, growing.places["", 1] + 4096)
        with open_trace(str(path)) as trace:
            assert records_of(trace, 1)[0][1] == len(records_of(trace, 0, "foo"))
        growing.update_cmdlines(b"1 a\n" * 100000)
        with open_trace(str(path)) as trace:
            assert trace.comm(1) == "a" and trace.cmdlines.endswith("1 a\n")
        assert os.stat(path).st_blocks * 512 < 1 << 20
    finally:
        os.close(fd)


def test_a_growing_file_ends_where_it_grew(tmp_path, monkeypatch):
    path = tmp_path / "trace.dat"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    sizes = {("", 0): 0, ("", 1): 1000, ("foo", 0): 3, ("foo", 1): 700}  # in pages
    found = []

    def look(*_arguments):
        with open_trace(str(path)) as trace:
            assert trace.problems == [] and trace.comm(42) == "answer"
            found.append({key: records_of(trace, key[1], key[0]) for key in sizes})

    try:
        growing = Growing(fd, parts((1,), 2), [("", "local", 4096, (0, 1)), ("foo", "mono", 4096, (0, 1))])
        growing.update_cmdlines(b"42 answer\n")
        for number, ((buffer, cpu), count) in enumerate(sizes.items()):
            pages = []
            for page in range(count):
                builder = PageBuilder(4096)
                builder.add(page, payload(7, 1000 * number + page, 42))
                pages += builder.finish()
            os.pwrite(fd, b"".join(pages), growing.places[buffer, cpu])
            growing.update(buffer, cpu, len(pages) * 4096)
        look()
        pwrite = os.pwrite
        # whoever dies in the middle leaves a file that can be read
        monkeypatch.setattr(os, "pwrite", lambda *arguments: (look(), pwrite(*arguments))[1])
        written = growing.finish({key: count * 4096 for key, count in sizes.items()}, [(2, b"CPU: 0\nentries: 1\n\0")])
        monkeypatch.undo()
        look()
    finally:
        os.close(fd)
    assert [len(records) for records in found[0].values()] == list(sizes.values()) and all(records == found[0] for records in found)
    assert [(buffer, cpu, size) for buffer, cpu, _, _, size in written] == [(*key, count * 4096) for key, count in sizes.items()]
    with open_trace(str(path)) as trace:
        assert [option.data for option in trace.option_list(2)] == [b"CPU: 0\nentries: 1\n\0"]
        assert [place.offset for buffer in trace.buffers for place in buffer.cpus] == [offset for _, _, offset, _, _ in written]
    assert os.stat(path).st_size < 8 << 20


def test_symbols_may_come_last(tmp_path):
    """Whether a recording shows any function of the kernel is known when it ends."""
    path = tmp_path / "trace.dat"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        growing = Growing(fd, parts((1,)).replace(kallsyms=b""), [("", "local", 4096, (0,))])
        with open_trace(str(path)) as trace:
            assert trace.kallsyms == b"" and trace.symbol(0xFFFFFFFF81000104) == ""
        growing.finish({("", 0): 0}, [(2, b"CPU: 0\nentries: 1\n\0")], parts((1,)).kallsyms)
    finally:
        os.close(fd)
    with open_trace(str(path)) as trace:
        assert trace.problems == [] and trace.kallsyms == parts((1,)).kallsyms
        assert trace.symbol(0xFFFFFFFF81000104) == "do_it" and len(trace.option_list(2)) == 1


@pytest.mark.parametrize("where", [None, 0, 37, 900])
@pytest.mark.parametrize("native", [True, False])
def test_records_of_other_kinds_are_found(where, native, monkeypatch):
    if not native:
        monkeypatch.setattr("harken.session.recorder_ftrace_markers.library", lambda: None)
    made = parts((1,)).replace(event_formats=(("system", (b"name: event\nID: 7\nformat:\n",)),))
    pages = []
    for start in (0, 500):
        builder = PageBuilder(4096)
        for n in range(start, start + 500):
            builder.add(n, payload(5 if n == where else 7, n, 42))
        pages += builder.finish()
    assert len(pages) > 2
    for some in (1, 2):  # pages at a time
        chunks = [b"".join(pages[at : at + some]) for at in range(0, len(pages), some)]
        assert has_others(made, chunks, 4096) == (where is not None)


@pytest.mark.parametrize("version, compression", [(6, "none"), (7, "none"), (7, "zlib")])
def test_truncated_files_give_what_they_have(version, compression):
    whole = recording(RECORDS, version, compression)
    complete = len(records_of(TraceFile(whole), 0))
    seen = set()
    for size in range(0, len(whole), max(len(whole) // 150, 1)):
        try:
            trace = TraceFile(whole[:size])
            count = len(records_of(trace, 0))
            assert trace.problems or count == complete
            seen.add(count)
        except FormatError as error:
            assert "trace.dat" in str(error) or "data" in str(error)
    assert 0 in seen and len(seen) > 1 or version == 7


@pytest.mark.parametrize(
    "version, compression", [(6, "none"), (7, "none"), (7, "zlib"), *([(7, "zstd")] if "zstd" in COMPRESSIONS else [])]
)
def test_mutants_end_in_time_and_with_errors_that_say_what(version, compression):
    whole = recording({"": {0: [(n, n, 1) for n in range(300)]}, "b": {0: [(1, 2, 3)]}}, version, compression)
    chance = random.Random(f"{version}{compression}")
    survived = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 8))):
            at = chance.randrange(len(data)) if chance.random() < 0.5 else chance.randrange(min(600, len(data)))
            piece = chance.choice((b"\xff" * 8, b"\0" * 8, bytes([chance.randrange(256)]), struct.pack("<Q", chance.randrange(1 << 40))))
            data[at : at + len(piece)] = piece
        try:
            trace = TraceFile(bytes(data))
            for buffer in trace.buffers:
                for place in buffer.cpus:
                    for run in trace.chunks(place.cpu, buffer.name):
                        len(run)
            len(trace.symbols), trace.comms, trace.printk(0), [trace.events.get(number) for number in trace.events.ids]
            survived += 1
        except HarkenError:
            pass
    assert survived > 50  # most changes hit records or texts


def test_a_bomb_is_not_expanded():
    whole = bytearray(recording(RECORDS, 7, "zlib"))
    trace = TraceFile(bytes(whole))
    place = trace.place(0)
    struct.pack_into("<I", whole, place.offset + 8, 0x7FFFFFFF)  # the first chunk claims 2 GiB
    tracemalloc.start()
    bomb = TraceFile(bytes(whole))
    assert list(bomb.chunks(0)) == [] and any("chunk of 2147483647 bytes" in problem for problem in bomb.problems)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_options_that_bite_their_tail():
    data = bytearray(recording({"": {0: [(1, 2, 3)]}}))
    first = TraceFile(bytes(data)).layout.option_sections[0]
    last = first.offset + first.size - 8
    struct.pack_into("<Q", data, last, first.offset - 16)
    assert any("bites its tail" in problem for problem in TraceFile(bytes(data)).problems)


def test_codecs_refuse_what_is_not_theirs():
    for found in available():
        packed = found.compress(b"x" * 5000)
        assert found.expand(packed, 5000) == b"x" * 5000
        for size in (4999, 5001):
            with pytest.raises(FormatError):
                found.expand(packed, size)
        with pytest.raises(FormatError):
            found.expand(b"nonsense", 10)
    with pytest.raises(FormatError, match="unknown compression"):
        codec("lzma")


def test_a_missing_zstd_is_told(monkeypatch):
    from harken.formats import trace_dat_compress

    for name in ("_zstd_standard", "_zstd_package"):
        monkeypatch.setattr(trace_dat_compress, name, lambda: None)
    assert not codec("zstd").writes
    with pytest.raises(FormatError, match=r"zstd, which is not installed\n") as caught:
        codec("zstd").expand(b"", 10, "a file", 77)  # where its data are says nothing
    assert "harken[zstd]" in caught.value.hint
    with pytest.raises(UsageError):
        codec("zstd").compress(b"x")


def test_symbols_of_one_address():
    table = Symbols(b"10 T first\n10 T second\n20 t third\n20 A absolute\nxx t bad\n30 T a\n30 T b\n30 T c\n")
    assert table.name(0x18) == "first"  # within the function: the first of the text, as trace-cmd finds it
    assert table.name(0x25) == "third" and table.find(5) is None
    assert table.name(0x30) != "" and table.find(0x31) is None  # how long the last one is, nobody says
    assert [name for _, name, _ in table.all()] == ["second", "first", "third", "c", "b", "a"]


def test_sections_describe_themselves():
    trace = TraceFile(recording(RECORDS, 7, "zlib"))
    assert {section.id for section in trace.layout.sections} >= {layout.HEADER_INFO, layout.EVENT_FORMATS, layout.KALLSYMS}
    assert trace.option_list(layout.BUFFER) and trace.option(99) is None


def test_corrections_of_time():
    made = parts().replace(options=((layout.DATE, b"0x10\0"), (layout.OFFSET, b"-5\0"), (layout.TSC2NSEC, struct.pack("<IIQ", 3, 2, 1))))
    with open(os.memfd_create("x"), "w+b") as stream:
        write_trace(stream.fileno(), made, [BufferSource("", "x86-tsc", 4096)])
        trace = TraceFile(os.pread(stream.fileno(), 1 << 20, 0))
    assert trace.date_offset == 16000 and trace.time_offset == -5 and trace.tsc2nsec == (3, 2, 1) and trace.clock == "x86-tsc"


@pytest.mark.parametrize("order", "<>")
def test_pages_that_a_builder_makes(order):
    chance = random.Random(order)
    builder = PageBuilder(4096, order, 8)
    wanted = []
    time = 0
    for _ in range(2000):
        time += chance.choice((0, 1, 1000, (1 << 27) - 1, 1 << 27, 1 << 45))
        data = bytes(chance.randrange(256) for _ in range(4 * chance.randrange(1, 40)))
        builder.add(time, data)
        wanted.append((time, data))
    pages = parse_layout("", order, 8)
    found = []
    for page in builder.finish():
        assert len(page) == 4096
        found += [(time, bytes(page[start : start + size])) for time, start, size in parse(page, layout=pages).records]
    assert found == wanted
    with pytest.raises(FormatError):
        builder.add(0, bytes(5000))


def test_not_a_recording(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    for data, problem in (
        (b"", "not a trace.dat"),
        (b"\x17\x08\x44tracing8\0", "version '8'"),
        (layout.MAGIC + b"7\0\2\x08", "byte order 2"),
    ):
        with pytest.raises(FormatError, match=problem):
            TraceFile(data)
    with pytest.raises(FormatError, match="empty"):
        open_trace(str(tmp_path / "empty"))


def test_the_kernel_names_only_its_own_addresses():
    """Tables of kernels with per-CPU variables begin at 0, so that any address of a program would lie behind one of them."""
    text = b"0 D percpu\n1000 D __per_cpu_end\nffffffff81000000 T _stext\nffffffff81000100 T one\nffffffff82000000 B _end\n"
    table = Symbols(text + b"ffffffffc0000000 t two\t[mod]\nffffffffc0000100 t three\t[mod]\n")
    assert table.image() == (0xFFFFFFFF81000000, 0xFFFFFFFF82000000) and Symbols(b"1000 T one\n").image() == (0, 1 << 64)
    trace = SimpleNamespace(symbols=table, order="<", long_size=8, printk=None, comm=None, uname="")
    addresses = (0, 0x400000, 0xFFFFFFFF81000108, 0xFFFFFFFF82000000, 0xFFFFFFFFC0000004)
    for dialect, names in (
        ("kernel", ["", "", "one", "", "two [mod]"]),
        ("trace-cmd", ["percpu", "__per_cpu_end", "one", "_end", "two [mod]"]),
    ):
        find = Env.of_file(trace, dialect).symbol
        assert [(find(address) or ("",))[0] for address in addresses] == names


def test_the_types_of_the_kernel_are_kept():
    made = parts().replace(btf=b"\x9f\xeb\x01\0" + bytes(100))
    for version, compression, kept in ((7, "zlib", made.btf), (7, "none", made.btf), (6, "none", b"")):
        with open(os.memfd_create("x"), "w+b") as stream:
            write_trace(stream.fileno(), made, [BufferSource("", "local", 4096)], version, compression)
            trace = TraceFile(os.pread(stream.fileno(), 1 << 20, 0))
        assert trace.btf == kept and Parts.of(trace).btf == kept and not trace.problems
        assert all(number != layout.OWN_BTF for number, _ in Parts.of(trace).options)
        # trace-cmd 3.4 reads such a section in compressed files only, and refuses others that have one
        assert bool(trace.section(layout.BTF_FILE)) == (compression == "zlib")
    with open(os.memfd_create("x"), "w+b") as stream:
        Growing(stream.fileno(), made, [("", "local", 4096, (0,))]).finish({("", 0): 0}, [])
        assert TraceFile(os.pread(stream.fileno(), 1 << 20, 0)).btf == made.btf
