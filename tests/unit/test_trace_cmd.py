"""trace-cmd's command lines, filters of the report, its lines around records, and the commands that only touch files."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from types import SimpleNamespace

import pytest

from harken.base.errors import HarkenError, KernelError, ProbeError, UsageError
from harken.cli.commands import stream
from harken.cli.commands.record import prepared
from harken.cli.commands.trace_cmd import COMMANDS, REFUSED, run
from harken.cli.trace_cmd.arguments import parse
from harken.cli.trace_cmd.background import in_background
from harken.cli.trace_cmd.filters import Filter, Filters
from harken.cli.trace_cmd.naming import naming
from harken.cli.trace_cmd.record import check
from harken.cli.trace_cmd.record_options import LETTERS, NAMES, parse_setup
from harken.cli.trace_cmd.report import NAMES as REPORT_NAMES
from harken.cli.trace_cmd.report import Report
from harken.cli.trace_cmd.running import Stop
from harken.cli.trace_cmd.setup import Buffers
from harken.cli.trace_cmd.worst_case import check_worst_case
from harken.formats.event_format import parse as parse_event
from harken.formats.trace_dat import open_trace
from harken.kernel.ftrace_events import EventList, match_events, match_functions, near_names
from harken.kernel.tracefs import find
from harken.kernel.tracefs_instances import undo_entry
from harken.session.recorder_ftrace_command import RecordedCommand
from harken.session.recorder_ftrace_network import address
from harken.testing.fake_kernel import FakeKernel
from harken.testing.trace_dat_builder import TICK, payload, recording

BUFFERS = {"": {0: [(1_000_000 * n, n, 5) for n in range(1, 101)], 1: [(1_000_000 * n + 500, -n, 6) for n in range(1, 51)]}}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "trace.dat"
    file.write_bytes(recording(BUFFERS))
    return str(file)


def lines(capsys, *words):
    status = run(list(words))
    return status, capsys.readouterr().out.splitlines()


def test_every_command_has_a_module_and_help(capsys):
    for name in COMMANDS:
        assert run([name, "-h"]) == 0
        assert f"harken trace-cmd {name}" in capsys.readouterr().out.replace("trace-cmd set", "trace-cmd start", 0) or name in (
            "set",
            "restart",
            "clear",
        )
    for name in REFUSED:
        with pytest.raises(UsageError, match="not supported"):
            run([name])
    with pytest.raises(UsageError, match="recrod") as caught:
        run(["recrod"])
    assert "record" in caught.value.hint and caught.value.exit_code == 255
    assert run([]) == 255 and run(["--version"]) == 0


def test_options_in_getopts_manner():
    assert parse(["-abX", "-b", "Y", "--", "-a"], "ab:", ()) == ([("a", ""), ("b", "X"), ("b", "Y")], ["-a"])
    assert parse(["x", "--name=1", "--na", "2", "y"], "", ("name=",)) == ([("name", "1"), ("name", "2")], ["x", "y"])
    for words in (["-z"], ["-b"], ["--nosuch"], ["--name"], ["--flag=1"], ["--f"]):
        with pytest.raises(UsageError):
            parse(words, "ab:", ("name=", "flag", "full"))


def test_the_briefs_command_line():
    setup = parse_setup("record -p function_graph -g do_sys_open -O funcgraph-proc ls".split()[1:])
    (buffer,) = setup.buffers
    assert (buffer.tracer, buffer.graph, buffer.options, setup.command) == ("function_graph", ["do_sys_open"], ["funcgraph-proc"], ["ls"])


def test_options_bind_by_their_order():
    setup = parse_setup(
        "-e sched -f a>1 -f b<2 -R stacktrace -B one -e irq -b 100 -C mono -M 3 "
        "-B two -p function -l x -n y --module m -v -e z -B one -T cmd -e q".split()
    )
    top, one, two = setup.buffers
    assert (top.events[0].filter, top.events[0].triggers) == ("(a>1)&&(b<2)", ["stacktrace"])
    assert (one.name, one.size_kb, one.clock, one.cpumask, one.stacks, len(one.events)) == ("one", 100, "mono", "3", True, 1)
    assert (two.tracer, two.functions, two.notrace, two.module) == ("function", ["x"], ["y"], "m")
    assert two.events[0].negated and not one.events[0].negated
    assert setup.command == ["cmd", "-e", "q"]
    assert parse_setup(["-P1,2", "-P", "3"]).pids == [1, 2, 3]
    for words, problem in (
        (["-f", "x"], "behind the event"),
        (["-A", "guest"], "agent"),
        (["-p", "a", "-p", "b"], "one tracer"),
        (["--file-version", "5"], "file version"),
        (["-b", "x"], "not a number"),
    ):
        with pytest.raises(UsageError, match=problem):
            parse_setup(words)


def test_a_clock_is_that_of_all_buffers_without_one_of_their_own():
    setup = parse_setup("-e sched -B one -e irq -C mono -B two -e timer -C boot -B empty -b 64".split())
    assert [(buffer.name, buffer.clock) for buffer in setup.buffers] == [("", "mono"), ("one", "mono"), ("two", "boot"), ("empty", "")]
    assert [buffer.untouched for buffer in parse_setup("-B one -e irq".split()).buffers] == [True, False]
    assert not parse_setup("-C mono -B one -e irq".split()).buffers[0].untouched


def test_a_tracer_of_latencies_is_recorded_alone_and_into_a_file():
    check_worst_case(parse_setup(["-p", "wakeup", "-o", "x.dat"]))
    check_worst_case(parse_setup(["-p", "function", "-B", "one", "-e", "irq"]), "streaming")
    with pytest.raises(UsageError, match="together with other buffers"):
        check_worst_case(parse_setup(["-p", "wakeup_rt", "-B", "one", "-e", "irq"]))
    with pytest.raises(UsageError, match="streaming is not possible with the tracer 'irqsoff'"):
        check_worst_case(parse_setup(["-p", "irqsoff"]), "streaming")


def test_events_that_a_pattern_means():
    events = [
        ("ftrace", "function"),
        ("sched", "sched_switch"),
        ("sched", "sched_waking"),
        ("irq", "irq_handler_entry"),
        ("kvm", "sched_in"),
    ]
    assert match_events(events, "all") == events[1:]
    assert match_events(events, "sched") == events[1:3] and match_events(events, "sched_in") == events[4:]
    assert match_events(events, "*:sched_*") == [events[1], events[2], events[4]] and match_events(events, "sched/sched_switch") == [
        events[1]
    ]
    assert match_events(events, "function") == [] and match_events(events, "SCHED") == []
    assert match_functions([("vfs_read", ""), ("ext4_read", "ext4")], "read$", "ext4") == ["ext4_read"]
    assert near_names(["do_sys_open", "do_sys_openat2", "xyz"], "do_sys_open") == ["do_sys_openat2"]


def test_what_puts_a_setting_back():
    assert undo_entry("set_ftrace_notrace_pid", "no pid\n") == ("set_ftrace_notrace_pid", "\n", False)
    assert undo_entry("set_ftrace_pid", "1\n2\n") == ("set_ftrace_pid", "1\n2\n", False)


EVENT = parse_event(TICK, "test")


def passes(text, value=3, pid=5, cpu=0, time=10, event=EVENT):
    data = payload(7, value, pid)
    found = Filter(text)
    return found.matches(event) and found.compile(event, "<", lambda pid: f"task-{pid}")(data, 0, len(data), cpu, time)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("tick", True), ("test", True), ("test/tick", True), ("other/tick", False), ("t.*", True), ("tic", False), ("x,tick", True),
        ("tick: value == 3", True), ("tick: value != 3", False), ("tick: value > 2 && value <= 3", True), ("tick: !(value == 3)", False),
        ("tick: value & 1", True), ("tick: value + 1 == 2 * 2", True), ("tick: value << 2 == 0xc", True), ("tick: (value - 5) < 0", True),
        ("tick: nosuch == 1", False), ("tick: nosuch == 1 || value == 3", True), ("tick: value == 3 && nosuch == 1", False),
        ("tick: !(nosuch == 1)", True), ('tick: COMM == "task-5"', True), ('tick: COMM =~ "^TASK"', True), ('tick: COMM !~ "task"', False),
        ("tick: CPU == 0", True), ("tick: TIMESTAMP >= 10", True), ("tick: PID == 5", True), ("tick: common_pid == 5", True),
        ('tick: value == "3"', False), ("tick: value / 0 == 0", True), ("tick: -value == 0 - 3", True), ("tick: value ^ 1 == 2", True),
    ],
)  # fmt: skip
def test_filters(text, expected):
    assert passes(text) is expected


def test_filters_that_do_not_parse():
    for text in (
        "",
        ":",
        "tick: value ==",
        "tick: (value",
        "tick: value 3",
        "tick: @",
        "tick: value =~ 3",
        "[",
        "tick: " + "(" * 100,
        "x" * 9000,
    ):
        with pytest.raises(UsageError):
            passes(text)


def test_filters_together():
    data = payload(7, 3, 5)

    def shown(*filters):
        test = Filters([Filter(text, negated) for text, negated in filters], "<", str).test(EVENT)
        return test if isinstance(test, bool) else test(data, 0, len(data), 0, 0)

    assert shown(("tick", False)) and not shown(("other", False)) and not shown(("tick", True)) and shown(("other", True))
    assert shown(("tick: value == 3", False), ("tick: value == 4", True)) and not shown(("tick", False), ("tick: value == 3", True))
    assert Filters([Filter("tick")], "<", str).test(None) is False


def test_report_and_its_selections(path, capsys):
    status, text = lines(capsys, "report", path)
    assert status == 0 and text[0] == "cpus=2" and len(text) == 151
    assert text[1] == "          task-5-5     [000]     0.001000: tick:                 value=1"
    assert len(lines(capsys, "report", "--cpu", "1", path)[1]) == 51
    assert len(lines(capsys, "report", "-F", "tick: value > 90", path)[1]) == 11
    assert len(lines(capsys, "report", "-v", "-F", "tick: value > 90", path)[1]) == 141
    assert len(lines(capsys, "report", "--comm", "task-6", path)[1]) == 51
    assert len(lines(capsys, "report", "--pid", "5", path)[1]) == 101
    assert lines(capsys, "report", "-t", path)[1][2].split()[2] == "0.001000500:"
    assert lines(capsys, "report", "--align-ts", path)[1][1].split()[2] == "0.000000:"
    assert "(+1)" in lines(capsys, "report", "--ts-diff", path)[1][2]
    assert lines(capsys, "report", "-i", path, "--ts-offset", "1000000000")[1][1].split()[2] == "1.001000:"
    assert lines(capsys, "report", "-i", path, "--ts2secs", "1000")[1][1].split()[2] == "1000.000000:"
    assert lines(capsys, "report", "--layout", "3.4", path)[1][1].split()[2] == "....."
    assert lines(capsys, "report", "--cpus", path)[1][1:] == ["  0", "  1"]
    assert lines(capsys, "report", "--version", path)[1] == ["cpus=2", "harken test"]
    assert lines(capsys, "report", "-E", path)[1] == ["test:tick"]
    assert lines(capsys, "report", "-T", "-F", "tick: value==1", path)[1] == [" 'tick: value == 1'"]
    assert lines(capsys, "report", "--check-events", path)[0] == 0
    assert lines(capsys, "report", "-V4", "-L", "--cpus", path)[1][1:] == ["  0", "  1"]
    assert lines(capsys, "report", "--event", "TEST:^tick$", path)[1] == lines(capsys, "report", "--events", path)[1]
    assert lines(capsys, "report", "--event", "tock", path)[1] == []
    assert lines(capsys, "report", "-r", "TEST", path)[1] == lines(capsys, "report", "-r", "t.*k", path)[1] != text
    assert lines(capsys, "report", "-r", "tic", path)[1] == text
    with pytest.raises(UsageError):
        Report(["--layout", "9"])


def test_where_converted_and_restored_recordings_go(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["convert", "-i", path, "--compression", "none", "other.dat"]) == 0
    assert lines(capsys, "report", "other.dat") == lines(capsys, "report", path)
    assert run(["convert", "compact.dat"]) == 0 and run(["convert", "-i", "compact.dat", "compact.dat"]) == 0  # of trace.dat; of itself
    assert lines(capsys, "report", "compact.dat") == lines(capsys, "report", path)
    for words in (["-e", "0"], ["-m", "-1"], ["-B", "nosuch"]):
        with pytest.raises(UsageError):
            run(["split", "-i", path, *words])
    assert run(["mem", path]) == 0 and "has no allocations" in capsys.readouterr().err


def test_a_filter_of_what_no_recording_has_is_refused_or_told(path, capsys):
    for words, problem in (
        (["-F", "tock"], "no event of the recording is called 'tock'"),
        (["-F", "tick, nosuch: value == 1"], "called 'nosuch'"),
        (["-F", "tick: COMM == cat"], "no field of its events"),
        (["--kallsyms", "/nosuch"], "cannot read /nosuch"),
    ):
        with pytest.raises(HarkenError, match=problem):
            run(["report", *words, path])
    capsys.readouterr()
    assert run(["report", "-F", "tick: bogus == 1 || value == 1", "--comm", "cat", path]) == 0
    told = capsys.readouterr().err
    assert "has a field 'bogus'" in told and "no task of the recording is called 'cat'" in told


def test_several_files_are_merged_under_their_names(tmp_path, capsys):
    for name, offset in (("one", 0), ("three", 500)):
        (tmp_path / name).write_bytes(recording({"": {0: [(1_000_000 * n + offset, n, 5) for n in range(1, 11)]}}))
    _, text = lines(capsys, "report", "-i", str(tmp_path / "one"), "-i", str(tmp_path / "three"))
    assert text[:2] == ["  one: cpus=1", "three: cpus=1"]
    assert [line[:7] for line in text[2:6]] == ["  one: ", "three: "] * 2


def test_buffers_have_labels(tmp_path, capsys):
    (tmp_path / "x").write_bytes(recording({"": {0: [(10, 1, 1)]}, "foo": {0: [(5, 2, 1)]}}))
    _, text = lines(capsys, "report", str(tmp_path / "x"))
    assert text[1].startswith("foo: ") and text[2].startswith("     ") and text[2].endswith("value=1")


@pytest.mark.parametrize(
    "words, parts", [(("-e", "20", "-r"), 8), (("-m", "10", "-r"), 10), (("-p", "1", "-r"), None), (("-e", "10", "-c", "-r"), 10)]
)
def test_parts_together_are_the_whole(path, tmp_path, capsys, words, parts):
    assert run(["split", "-i", path, "-o", str(tmp_path / "part"), *words]) == 0
    files = sorted(tmp_path.glob("part.*"))
    assert parts is None or len(files) == parts
    whole = lines(capsys, "report", path)[1][1:]
    found = []
    for file in files:
        found += lines(capsys, "report", str(file))[1][1:]
    assert found == whole


def test_a_part_between_two_times(path, tmp_path, capsys):
    assert run(["split", "-i", path, "-o", str(tmp_path / "part"), "0.010", "0.020"]) == 0
    text = lines(capsys, "report", str(tmp_path / "part.1"))[1]
    assert len(text) == 1 + 11 + 10 and "value=10" in text[1] and "value=20" in text[-1]
    with pytest.raises(UsageError):
        run(["split", "-i", path, "-o", str(tmp_path / "part"), "5", "6"])
    assert run(["split", "-i", path, "-r"]) == 0 and lines(capsys, "report", path + ".0001") == lines(capsys, "report", path)


def test_conversion_and_restoring(path, tmp_path, capsys):
    whole = lines(capsys, "report", path)[1]
    for words in (("--file-version", "6"), ("--compression", "zlib"), ("--compression", "none")):
        assert run(["convert", "-i", path, "-o", str(tmp_path / "new"), *words]) == 0
        assert lines(capsys, "report", str(tmp_path / "new"))[1] == whole
    with pytest.raises(UsageError):
        run(["convert", "-i", path, "-o", "x", "--file-version", "6", "--compression", "zlib"])
    with open_trace(path) as trace:
        for cpu in range(2):
            (tmp_path / f"cpu{cpu}").write_bytes(b"".join(bytes(chunk) for chunk in trace.chunks(cpu)))
    assert run(["restore", "-i", path, "-o", str(tmp_path / "new"), str(tmp_path / "cpu0"), str(tmp_path / "cpu1")]) == 0
    capsys.readouterr()
    assert lines(capsys, "report", str(tmp_path / "new"))[1] == whole


def test_dump(path, tmp_path, capsys):
    text = lines(capsys, "dump", "-i", path)[1]
    assert "\t\t7\t[Version]" in text and "\t[Events format, 1 systems]" in text
    assert lines(capsys, "dump", "-v", "-i", path) == (0, [f"File {path} is a valid trace-cmd file"])
    (tmp_path / "cut").write_bytes((tmp_path / "trace.dat").read_bytes()[:-9000])
    assert lines(capsys, "dump", "-v", "-i", str(tmp_path / "cut"))[0] == 1
    assert any(line.startswith("name: tick") for line in lines(capsys, "dump", "--events", "-i", path)[1])
    assert lines(capsys, "dump", "--all", "-i", path)[0] == 0


def test_records_of_lost_events_are_told(tmp_path, capsys):
    import struct

    data = bytearray(recording({"": {0: [(n, n, 1) for n in range(500)]}}))
    with open_trace_of(bytes(data)) as trace:
        place = trace.place(0)
    commit = struct.unpack_from("<Q", data, place.offset + 4096 + 8)[0]
    struct.pack_into("<Q", data, place.offset + 4096 + 8, commit | 1 << 31)
    (tmp_path / "lost").write_bytes(data)
    assert "CPU:0 [EVENTS DROPPED]" in lines(capsys, "report", str(tmp_path / "lost"))[1]


def open_trace_of(data):
    from harken.formats.trace_dat import TraceFile

    return TraceFile(data)


def test_a_reader_that_goes_away_is_no_error_of_the_file(tmp_path, monkeypatch):
    """As in ``show | head``: the command ends without a word (cli.main), and does not say that the file cannot be read."""
    from harken.cli.trace_cmd.buffers import copy_file

    class Trace:
        kernel, path = SimpleNamespace(open=lambda path: os.open(path, os.O_RDONLY), close=os.close), str(tmp_path / "trace")
        _of = staticmethod(lambda file: SimpleNamespace(path=lambda name: Trace.path, refused=None))

    (tmp_path / "trace").write_bytes(b"x" * 300_000)
    reader, writer = os.pipe()
    with open(writer, "wb", closefd=True) as out:
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=out))
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            copy_file(Trace, "trace")
        monkeypatch.undo()
        with contextlib.suppress(BrokenPipeError):
            out.close()
    Trace.path = str(tmp_path)
    with pytest.raises(KernelError, match="cannot read"):
        copy_file(Trace, "trace")


@pytest.mark.parametrize(
    "words, problem",
    [
        (["-b", "-5"], "-b: -5 is not possible"), (["-P", "0"], "-P: 0 is not possible"), (["-r", "100"], "-r: 100 is not possible"),
        (["--buffer-percent", "101"], "--buffer-percent: 101"), (["--ts-offset", "soon"], "not a number"), (["-B", ""], "name of a buffer"),
    ],
)  # fmt: skip
def test_numbers_that_an_option_cannot_have(words, problem):
    with pytest.raises(UsageError, match=problem):
        parse_setup(words)


@pytest.mark.parametrize("words", [["-o", "f"], ["-N", "5000"], ["--daemonize"]])
@pytest.mark.parametrize("command", [
    stream.run, lambda words: run(["stream", *words]), lambda words: run(["start", *words]), lambda words: run(["set", *words]),
])  # fmt: skip
def test_who_makes_no_file_takes_no_options_about_it(command, words):
    with pytest.raises(UsageError, match="writes no file|--daemonize"):
        command(["-e", "sched_switch", *words])


def test_events_that_a_profile_joins_are_recorded_by_both_names_of_record():
    setup = prepared(["-e", "irq", "-H", "sched_switch,next_pid/sched:sched_wakeup,pid", "true"])
    assert [event.pattern for event in setup.buffers[0].events] == ["irq", "sched_switch", "sched:sched_wakeup"]


@pytest.mark.parametrize("words, hint", [
    (["-r", "-1"], "0 to 99"), (["-P", "-1"], "1 or more"), (["--subbuf-size", "2000000"], "0 to 1048576"),
])  # fmt: skip
def test_what_an_option_can_have(words, hint):
    with pytest.raises(UsageError) as caught:
        parse_setup(words)
    assert caught.value.hint == hint


def test_what_cannot_be_recorded_is_told_before_anything_is_set():
    gone = os.fork()
    if not gone:
        os._exit(0)
    os.waitpid(gone, 0)
    with pytest.raises(KernelError, match=f"there is no task {gone}"):
        check(parse_setup(["-e", "sched", "-P", str(gone)]))
    with pytest.raises(UsageError, match="there is a command"):
        check(parse_setup(["-e", "sched", "--daemonize", "ls"]))
    for command in ("/nosuch/ls", "no such program"):
        with pytest.raises(KernelError, match=f"cannot run '{command}': No such file"):
            check(parse_setup(["-e", "sched", command]))
    check(parse_setup(["-e", "sched", "ls"]))
    for place in ("nohost", "box:0", "box:99999", "box:"):
        with pytest.raises(UsageError, match="is not HOST:PORT"):
            address(place)


def test_a_command_that_cannot_be_executed():
    command = RecordedCommand(["/etc/passwd"])
    try:
        with pytest.raises(KernelError, match="cannot run '/etc/passwd': Permission denied") as caught:
            command.release()
        assert caught.value.errno == errno.EACCES
    finally:
        command.close()


@pytest.mark.parametrize("ready, status, told", [(True, 5, 0), (False, 7, 7)])
def test_the_background_begins_when_all_is_set_up(tmp_path, ready, status, told):
    pid_file, end = tmp_path / "pid", tmp_path / "end"

    def work(say):
        if ready:
            say()
            print("nobody hears this")
            written = int(pid_file.read_text())
            end.write_text(f"{written == os.getpid() == os.getsid(0)}")
        return status

    parent = os.getpid()
    gate, opened = os.pipe()
    result = in_background(work, str(pid_file))
    if os.getpid() != parent:
        os._exit(result)  # closes the gate
    os.close(opened)
    os.read(gate, 1)
    os.close(gate)
    assert result == told and not pid_file.exists()
    assert not ready or end.read_text() == "True"


def test_what_cannot_be_put_back_is_told_and_the_rest_is_put_back(capsys):
    closed = []

    class Trace:
        def __init__(self, name, failed):
            self.name, self.failed = name, failed

        def close(self):
            closed.append(self.name)
            if self.failed == "raised":
                raise KernelError("no way back")
            return [KernelError(f"{self.name} stays")] if self.failed else []

    buffers = Buffers(None, None, True)
    buffers.traced = [(None, Trace("one", "")), (None, Trace("two", "told")), (None, Trace("three", "raised"))]
    buffers.close()
    assert closed == ["three", "two", "one"]
    assert capsys.readouterr().err == "WARNING: could not be put back: no way back\nWARNING: could not be put back: two stays\n"


def test_an_event_that_is_not_there_is_told_with_what_looks_like_it():
    events = EventList("sched:sched_switch\nirq:irq_handler_entry\n")
    assert events.required("irq:*") == [("irq", "irq_handler_entry")]
    for pattern, hint in (("sched_swich", "sched_switch"), ("ftrace:function", "list -e"), ("zz*", "list -e")):
        with pytest.raises(ProbeError, match="no event matches") as caught:
            events.required(pattern)
        assert hint in caught.value.hint


def test_a_regular_expression_that_is_none_is_told_where():
    with pytest.raises(UsageError, match=r"'x\[' is not a regular expression: .* at position 1$"):
        Filter("x[")


@pytest.mark.parametrize("number, status", [(errno.ENOSPC, errno.ENOSPC), (0, 255), (-2, 255)])
def test_the_status_is_an_errno_or_255(monkeypatch, number, status):
    def fail(_argv):
        raise KernelError("refused", errno=number)

    monkeypatch.setattr("harken.cli.trace_cmd.options.run", fail)
    with pytest.raises(KernelError) as caught:
        run(["options"])
    assert caught.value.exit_code == status


def test_every_option_is_explained(capsys):
    for name, letters, names in (("record", LETTERS, NAMES), ("report", "iFvTItSlRrNLnwOefPEGH", REPORT_NAMES)):
        assert run([name, "--help"]) == 0
        text = capsys.readouterr().out
        silent = set("A V X N h poll nosplice nofifos notimeout verbose name tsync-interval proxy fork stderr by-comm help debug".split())
        silent |= {"filter-test"}  # spelled out it is the same as -T
        options = [f"-{letter}" for letter in letters if letter != ":" and letter not in silent]
        options += [f"--{word.rstrip('=?')}" for word in names if word.rstrip("=?") not in silent]
        words = set(text.replace(",", " ").replace(";", " ").replace(":", " ").split())
        assert [option for option in options if option not in words] == []


def test_errors_of_files_have_their_own_status_and_wrong_usage_the_way_to_help(path, tmp_path):
    with pytest.raises(HarkenError) as failed:
        run(["report", "--nosuch"])
    assert failed.value.exit_code == 255 and "'harken trace-cmd report --help'" in failed.value.hint
    with pytest.raises(HarkenError) as failed:
        run(["convert", "-i", path, "-o", str(tmp_path / "none" / "x")])
    assert failed.value.exit_code == 2 and "No such file" in failed.value.message


def test_a_full_disk_is_told_with_the_file(path, tmp_path):
    for words in (["convert", "-i", path, "-o", "/dev/full"], ["split", "-i", path, "-o", str(tmp_path / "part")]):
        if words[0] == "split":
            (tmp_path / "part.1").symlink_to("/dev/full")
        else:
            (tmp_path / "x.new").symlink_to("/dev/full")
            words[-1] = str(tmp_path / "x")
        with pytest.raises(KernelError) as failed:
            run(words)
        assert failed.value.exit_code == errno.ENOSPC and str(tmp_path) in failed.value.message
    for number, named in ((errno.EPIPE, None), (errno.EMFILE, None), (errno.EAGAIN, None), (errno.EDQUOT, "x"), (errno.EIO, "x")):
        with pytest.raises(OSError) as caught, naming("x"):
            raise OSError(number, "gone")
        assert caught.value.filename == named


@pytest.mark.parametrize("ignored", [False, True], ids=["terminal", "nohup"])
def test_a_terminal_that_goes_away_ends_a_recording(ignored):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        stop = Stop()
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.wanted is not ignored
        stop.restore()
        assert signal.getsignal(signal.SIGHUP) == (signal.SIG_IGN if ignored else signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_recording_of_perf_is_known_by_its_beginning(tmp_path):
    (tmp_path / "perf.data").write_bytes(b"PERFILE2" + bytes(200))
    with pytest.raises(HarkenError) as failed:
        run(["report", str(tmp_path / "perf.data")])
    assert "it is a recording of perf" in failed.value.hint


def test_a_wrong_kind_of_dynamic_events_is_told_before_anything_is_reset(monkeypatch):
    monkeypatch.setattr("harken.cli.trace_cmd.reset.open_tracefs", lambda: None)
    with pytest.raises(UsageError, match="no kind 'kprobes'"):
        run(["reset", "-k", "kprobes"])


def test_long_differences_of_times_keep_a_blank(tmp_path, capsys):
    """In trace-cmd's layout ("%-8s" and a blank) a tenth of a second takes more than its column."""
    file = tmp_path / "trace.dat"
    file.write_bytes(recording({"": {0: [(1000, 1, 5), (1_000_000, 2, 5), (200_001_000, 3, 5)]}}))
    out = lines(capsys, "report", "--ts-diff", str(file))[1][1:]
    assert [line.split(": ", 1)[1] for line in out] == [
        "         tick:                 value=1",
        "(+999)   tick:                 value=2",
        "(+199001) tick:                 value=3",
    ]


def test_a_recording_without_statistics_says_so(path, capsys):
    status, out = lines(capsys, "report", "--stat", path)
    assert status == 0 and out[1:3] == ["", "Kernel buffer statistics:"]
    assert out[5:9] == ["", " No stats in this file", "CPU0 data recorded at offset=0x1000", "    4096 bytes in size"]


def test_the_deepest_stack_without_the_kernels_remarks(monkeypatch, capsys):
    """The file tells how to start the tracer, in lines with a #, which trace-cmd leaves out."""
    head = "        Depth    Size   Location    (1 entries)\n        -----    ----   --------\n"
    remarks = "#\n#  Stack tracer disabled\n#\n# To enable the stack tracer, ...\n#\n"
    entry = "  0)     2488      48   __msecs_to_jiffies+0x5/0x20\n"
    kernel = FakeKernel({"/proc/sys/kernel/stack_tracer_enabled": "0\n", "/sys/kernel/tracing/trace": ""})
    kernel.files["/sys/kernel/tracing/stack_trace"] = (head + remarks + entry).encode()
    monkeypatch.setattr("harken.cli.trace_cmd.stack.open_tracefs", lambda: find(kernel))
    assert run(["stack"]) == 0
    assert capsys.readouterr().out == "(stack tracer not running)\n" + head + entry


def test_a_recording_is_read_from_a_pipe_and_not_from_a_directory(path, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    child = os.fork()
    if not child:
        with open(path, "rb") as source, open(tmp_path / "pipe", "wb") as target:
            target.write(source.read())
        os._exit(0)
    assert lines(capsys, "report", str(tmp_path / "pipe"))[1] == lines(capsys, "report", path)[1]
    os.waitpid(child, 0)
    with pytest.raises(IsADirectoryError) as failed:
        open_trace(str(tmp_path))
    assert failed.value.filename == str(tmp_path)
    for empty in ("/dev/null", "/dev/zero"):
        with pytest.raises(HarkenError, match="is empty"):
            open_trace(empty)


def test_what_does_not_exist_has_the_status_of_that(monkeypatch):
    def missing(_words):
        raise ProbeError("no event matches 'nosuch'")

    monkeypatch.setattr("harken.cli.trace_cmd.show.run", missing)
    with pytest.raises(ProbeError) as failed:
        run(["show"])
    assert failed.value.exit_code == errno.ENOENT


@pytest.mark.parametrize(
    "words, shown",
    [
        ([], ["foo: ", "     "]), (["-B", "foo"], ["foo: "]), (["--top"], [""]), (["-B", "foo", "-t"], [""]),
        (["--top", "-b", "a"], ["a: "]),
        (["--top", "-b", "bar", "-B", "foo", "-t"], ["     ", "bar: "]), (["-t"], [""]),
    ],
)  # fmt: skip
def test_buffers_of_a_part_and_their_names(tmp_path, capsys, words, shown):
    (tmp_path / "x").write_bytes(recording({"": {0: [(2000, 1, 1)]}, "foo": {0: [(1000, 2, 1)]}}))
    assert run(["split", "-i", str(tmp_path / "x"), *words]) == 0
    text = lines(capsys, "report", str(tmp_path / "x.1"))[1][1:]
    assert [line[: len(label)] for line, label in zip(text, shown, strict=True)] == shown
    for wrong in (["-b", "a"], ["-B", "foo", "-b", "a"], ["--top", "-B", "foo", "-t"]):
        with pytest.raises(UsageError):
            run(["split", "-i", str(tmp_path / "x"), *wrong])
