"""harken's own defaults for record, and the counters of a long recording."""

import pytest

from harken.base.errors import UsageError
from harken.cli.commands import hist
from harken.cli.commands.record import prepared
from harken.cli.main import main
from harken.cli.trace_cmd.progress import Progress
from harken.formats.trace_dat import TraceFile
from harken.testing.trace_dat_builder import recording


def patterns(setup):
    return [event.pattern for event in setup.buffers[0].events]


def test_a_command_alone():
    setup = prepared(["ls", "-l", "-a"])
    assert setup.command == ["ls", "-l", "-a"] and setup.filter_command and setup.children
    assert "sched:sched_switch" in patterns(setup) and "raw_syscalls" in patterns(setup)
    assert all(event.optional for event in setup.buffers[0].events) and setup.buffers[0].size_kb == 8192 and setup.summary


def test_what_is_asked_for_is_all():
    setup = prepared(["-a", "-e", "irq", "-d", "1.5", "-b", "100", "-o", "-a.dat", "ls"])
    assert patterns(setup) == ["irq"] and setup.duration == 1.5 and setup.buffers[0].size_kb == 100
    assert setup.output == "-a.dat" and not setup.filter_command and setup.command == ["ls"]
    assert prepared(["-d2", "-p", "function", "-l", "vfs_*"]).duration == 2
    assert not prepared(["-P", "1", "-e", "irq"]).filter_command


@pytest.mark.parametrize("words", [["-d"], ["-d", "soon"], ["-d", "0"], ["-d", "-3"]])
def test_wrong_durations(words):
    with pytest.raises(UsageError):
        prepared(words)


def test_a_profile_has_its_events():
    setup = prepared(["--profile", "ls"])
    assert setup.buffers[0].tracer == "function_graph" and setup.depth == 1
    assert [event.triggers for event in setup.buffers[0].events if event.pattern == "sched:sched_switch"] == [["stacktrace"]]
    assert prepared(["--profile", "-p", "nop", "ls"]).buffers[0].tracer == "nop"
    only = prepared(["--profile", "-S", "-e", "irq", "-H", "sched:sched_wakeup,pid/sched_switch,next_pid,s", "ls"])
    assert patterns(only) == ["irq", "sched:sched_wakeup", "sched_switch"] and only.buffers[0].events[1].triggers == ["stacktrace"]


class Trace:
    cpus = (0, 1)

    def stats(self, cpu):
        return f"entries: 10\noverrun: {cpu}\nread events: 1000000\ndropped events: 2\n"


def test_counters(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("harken.cli.trace_cmd.progress.time.monotonic", lambda: now[0])
    progress = Progress([Trace()], lambda: 5 << 20, terminal=True)
    progress.tick()
    assert capsys.readouterr().err == ""  # short recordings are silent
    now[0] += 2
    progress.tick()
    assert capsys.readouterr().err == "\r   2.0 s  2.00 M events (1.00 M/s)  5.24 MB  5 LOST"
    progress.tick()
    progress.end()
    assert capsys.readouterr().err.strip("\r ") == ""
    silent = Progress([Trace()], lambda: 0, terminal=False)
    now[0] += 10
    silent.tick()
    silent.end()
    assert capsys.readouterr().err == ""


def test_keys_for_a_synthetic_event():
    assert hist._keys("pid_t pid; u64 lat; char comm[16];") == ["pid", "comm", "lat.log2"]
    with pytest.raises(UsageError, match="one event, or --sql"):
        hist.run([])


@pytest.mark.parametrize("content", [None, b"", b"something else", recording({"": {0: [(1, 2, 3)]}})[:40]])
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_an_unreadable_file_is_an_error(tmp_path, capsys, content, words):
    path = tmp_path / "some.dat"
    if content is not None:
        path.write_bytes(content)
    assert main(["report", *words, str(path)]) == 1
    assert main(["trace-cmd", "report", str(path)]) == (255 if content is not None else 2)
    found = capsys.readouterr()
    assert found.out == "" and found.err.count(str(path)) == 2


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_damaged_compressed_data_is_told_with_its_file(tmp_path, capsys, compression):
    if compression == "zstd":
        pytest.importorskip("zstandard")
    path = tmp_path / "some.dat"
    data = bytearray(recording({"": {0: [(n, n, 3) for n in range(5000)]}}, 7, compression))
    whole = TraceFile(bytes(data))
    place = whole.buffer().cpus[0]
    data[place.offset + 20 : place.offset + 60] = bytes(40)
    path.write_bytes(data)
    assert main(["report", str(path)]) == 0
    assert f"WARNING: {path}: {compression} data: " in capsys.readouterr().err
    section = whole.layout.section(18)  # event formats
    data[section.offset + 8 : section.offset + 30] = bytes(22)
    path.write_bytes(data)
    assert main(["report", str(path)]) == 1
    assert f"ERROR: {path}: {compression} data: " in capsys.readouterr().err
