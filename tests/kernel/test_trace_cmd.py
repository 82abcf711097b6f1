"""trace-cmd's commands on a live kernel: recordings, killed recordings, named buffers; nothing stays behind."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest

from harken.base.errors import KernelError, ProbeError, UsageError
from harken.cli.commands.trace_cmd import run
from harken.formats.ring_page import parse_layout, walk
from harken.formats.trace_dat import open_trace
from harken.kernel import tracefs
from harken.kernel.ftrace_journal import sweep_journals
from harken.kernel.kernel import live
from harken.kernel.tracefs_instances import instance_names
from harken.kernel.tracefs_leftovers import sweep_leftovers
from harken.testing.recordings import events_of

pytestmark = [pytest.mark.kernel, pytest.mark.needs("tracefs")]

STATE = ("current_tracer", "tracing_on", "events/sched/sched_switch/enable", "trace_clock", "set_event_pid")


@pytest.fixture
def root():
    return tracefs.find(live())


@pytest.fixture
def clean(root):
    """Fails if a test leaves instances or changed settings behind."""
    before = {name: root.read(name) for name in STATE if root.exists(name)}
    mine = [name for name in instance_names(root) if name.startswith(f"harken_{os.getpid()}_")]
    yield
    assert [name for name in instance_names(root) if name.startswith(f"harken_{os.getpid()}_")] == mine
    assert {name: root.read(name) for name in before} == before


@pytest.mark.parametrize("options", [("--file-version", "6"), ("--compression", "none"), ("--compression", "zlib")])
def test_a_command_is_recorded(root, clean, tmp_path, capsys, options):
    path = tmp_path / "trace.dat"
    words = ["record", "-o", str(path), *options, "-e", "sched:sched_process_exec", "-e", "sched:sched_switch", "sh", "-c", ":"]
    assert run(words) == 0
    counts = events_of(path)
    assert counts["sched_process_exec"] >= 1 and counts["sched_switch"] >= 1 and set(counts) == {"sched_process_exec", "sched_switch"}
    assert "CPU0 data recorded at offset=0x" in capsys.readouterr().err
    with open_trace(str(path)) as trace:
        assert "sh" in trace.comms.values() and trace.uname.split()[2] == os.uname().release
        assert len(trace.option_list(2)) == len(trace.buffer().cpus)


@pytest.mark.parametrize("continued", [False, True])
def test_what_was_in_a_buffer_before_is_recorded_if_it_is_asked_for(root, clean, tmp_path, continued):
    name, path = f"harken_{os.getpid()}_before", tmp_path / "trace.dat"
    try:
        assert run(["start", "-q", "-B", name, "-e", "sched:sched_process_exec", "sh", "-c", "/bin/true; :"]) == 0
        words = ["-B", name, "-e", "sched:sched_process_fork", "-F", "true"]
        assert run(["record", "-q", "-o", str(path), *(["-K"] if continued else []), *words]) == 0
        assert ("sched_process_exec" in events_of(path, name)) is continued
    finally:
        run(["reset", "-B", name, "-d"])


def test_symbols_are_recorded_where_something_shows_them(root, clean, tmp_path, capsys):
    path = str(tmp_path / "trace.dat")
    for words, wanted in (
        (["-e", "sched:sched_switch"], False),
        (["-e", "kmem:kmalloc"], True),
        (["-a", "-e", "sched:sched_switch"], True),
    ):
        assert run(["record", "-q", "-o", path, *words, "true"]) == 0
        with open_trace(path) as trace:
            assert bool(trace.kallsyms) == wanted, words
    marker = f"echo something > {root.path('trace_marker')}"
    for option in ("--top", "--private"):  # they come with what users write
        if option == "--private" and not root.exists("options/copy_trace_marker"):
            continue
        top = [option] if option == "--top" else []
        for command, wanted in ((["true"], False), (["sh", "-c", marker], True)):
            assert run(["record", "-q", "-o", path, *top, "-e", "sched:sched_process_exec", "-F", *command]) == 0
            with open_trace(path) as trace:
                assert bool(trace.kallsyms) == wanted, (option, command)
        capsys.readouterr()
        assert run(["report", path]) == 0
        assert "tracing_mark_write: something" in capsys.readouterr().out


def test_only_the_command(root, clean, tmp_path):
    path = tmp_path / "trace.dat"
    assert run(["record", "-q", "-o", str(path), "-F", "-c", "-e", "sched:sched_process_exec", "sh", "-c", "/bin/true; exit 0"]) == 0
    with open_trace(str(path)) as trace:
        event = trace.events.find("sched:sched_process_exec")
        layout = parse_layout(trace.header_page, trace.order, trace.kernel_long)
        names = []
        for place in trace.buffer().cpus:
            for chunk in trace.chunks(place.cpu):
                data = bytes(chunk)
                records = walk(data, 4096, layout)
                where = event.field("filename").offset
                for start in records.starts:
                    at = int.from_bytes(data[int(start) + where : int(start) + where + 2], "little")
                    names.append(data[int(start) + at :].split(b"\0", 1)[0])
    assert any(name.endswith(b"/sh") for name in names) and any(name.endswith(b"/true") for name in names) and len(names) <= 4


def test_buffers_of_their_own(root, clean, tmp_path):
    path, name = tmp_path / "trace.dat", f"harken_test_{os.getpid()}"
    assert run(["record", "-q", "-o", str(path), "-e", "sched:sched_switch", "-B", name, "-e", "raw_syscalls:sys_enter", "true"]) == 0
    assert set(events_of(path)) == {"sched_switch"} and set(events_of(path, name)) == {"sys_enter"}
    assert name not in instance_names(root)


def test_start_stop_extract_and_reset_in_a_named_buffer(root, clean, tmp_path, capfd):
    name = f"harken_test_{os.getpid()}"
    try:
        assert run(["start", "-B", name, "-e", "sched:sched_switch", "-C", "mono"]) == 0
        assert name in instance_names(root) and root.read(f"instances/{name}/tracing_on").strip() == "1"
        time.sleep(0.05)
        assert run(["stop", "-B", name]) == 0 and root.read(f"instances/{name}/tracing_on").strip() == "0"
        capfd.readouterr()
        assert run(["show", "-B", name]) == 0
        shown = lines_of(capfd.readouterr().out)
        assert "sched_switch:" in shown[0]
        assert run(["stat", "-B", name]) == 0
        text = capfd.readouterr().out
        assert f"Instance: {name}" in text and "sched_switch" in text and "Clock: mono" in text and "Tracing is disabled" in text
        with pytest.raises(ProbeError, match="no event matches 'sched_swich'"):
            run(["show", "-B", name, "--trigger", "sched_swich"])
        path = tmp_path / "extracted.dat"
        assert run(["extract", "-q", "-B", name, "-o", str(path)]) == 0
        assert events_of(path, name)["sched_switch"] > 0
        assert run(["report", "--layout", "kernel", "-i", str(path)]) == 0
        assert lines_of(capfd.readouterr().out, f"{name}: ") == shown
        assert run(["restart", "-B", name]) == 0 and root.read(f"instances/{name}/tracing_on").strip() == "1"
        assert run(["clear", "-B", name]) == 0
    finally:
        assert run(["reset", "-B", name, "-d"]) == 0
    assert name not in instance_names(root)


@pytest.mark.parametrize("command", ["start", "set"])
def test_a_named_buffer_is_deleted(root, clean, command):
    """``start`` without anything to trace is an error, but for this; the top buffer goes on."""
    name = f"harken_test_{os.getpid()}"
    assert run(["start", "-B", name, "-e", "sched:sched_switch"]) == 0
    with pytest.raises(UsageError, match="nothing to trace"):
        run(["start", "-v", "-B", name, "true"])
    assert run([command, "-v", "-B", name]) == 0
    assert name not in instance_names(root)


def test_sizes_of_functions_and_names_of_values_in_the_kernels_layout(root, clean, tmp_path, capfd):
    """What neither formats nor records have: kallsyms tell where a function ends, types what a flag is called."""
    name = f"harken_test_{os.getpid()}"
    events = ["-e", "kmem:kmalloc", "-e", "kmem:kfree", "-e", "writeback:writeback_dirty_inode"]
    try:
        assert run(["start", "-B", name, *events, "-P", str(os.getpid())]) == 0
        for at in range(5):
            (tmp_path / f"{at}").write_text("x")
            os.utime(tmp_path / f"{at}")
        assert run(["stop", "-B", name]) == 0
        capfd.readouterr()
        assert run(["show", "-B", name]) == 0
        shown = lines_of(re.sub(POINTER, "?", capfd.readouterr().out))
        assert run(["extract", "-q", "-B", name, "-o", str(tmp_path / "trace.dat")]) == 0
    finally:
        assert run(["reset", "-B", name, "-d"]) == 0
    capfd.readouterr()
    assert run(["report", "--layout", "kernel", "-i", str(tmp_path / "trace.dat")]) == 0
    assert lines_of(re.sub(POINTER, "?", capfd.readouterr().out), f"{name}: ") == shown
    assert any(re.search(r"call_site=\w+\+0x[0-9a-f]+/0x", line) for line in shown)


#: What the kernel hashes with a secret.
POINTER = re.compile(r"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])")


def lines_of(text, label=""):
    """The lines of a trace, without what is said about it and names of tasks (the kernel may forget them between two looks)."""
    return [re.sub(r"^ *\S.*?-(?=\d+ )", "", line.removeprefix(label)) for line in text.splitlines() if not line.startswith("#")]


def test_a_reset_leaves_markers_in_the_top_buffer(root):
    """Linux 6.16 made an option of it, which is on when a kernel comes up."""
    if not root.exists("options/copy_trace_marker"):
        pytest.skip("this kernel always puts what users write into the top buffer")
    from harken.cli.trace_cmd.reset import _options
    from harken.kernel.ftrace import Ftrace

    root.write("options/copy_trace_marker", "0")
    _options(Ftrace.top(root, durable=False))
    assert root.read("options/copy_trace_marker").strip() == "1"


def test_a_reset_gives_back_options_of_tracers_that_are_not_chosen(root):
    from harken.cli.trace_cmd.reset import _options
    from harken.kernel.ftrace import Ftrace

    names = [name for name in ("blk_classic", "funcgraph-proc") if root.exists(f"options/{name}")]
    if not names:
        pytest.skip("this kernel has none of the tracers whose options these are")
    for name in names:
        root.write(f"options/{name}", "1")
    _options(Ftrace.top(root, durable=False))
    assert [root.read(f"options/{name}").strip() for name in names] == ["0"] * len(names)


def test_the_latency_layout_of_a_buffer_and_of_its_recording(root, clean, tmp_path, capfd):
    name = f"harken_test_{os.getpid()}"
    try:
        assert run(["start", "-B", name, "-e", "sched:sched_switch", "-O", "latency-format"]) == 0
        time.sleep(0.05)
        assert run(["stop", "-B", name]) == 0
        capfd.readouterr()
        assert run(["show", "-B", name]) == 0
        shown = [re.sub(r" *\d+us", "us", line) for line in lines_of(capfd.readouterr().out)]  # since the buffer was cleared
        assert "us" in shown[0].split(": ")[0]
        assert run(["extract", "-q", "-B", name, "-o", str(tmp_path / "trace.dat")]) == 0
        assert run(["report", "--layout", "kernel", "-l", "-i", str(tmp_path / "trace.dat")]) == 0
        assert [re.sub(r" *\d+us", "us", line) for line in lines_of(capfd.readouterr().out, f"{name}: ")] == shown
    finally:
        assert run(["reset", "-B", name, "-d"]) == 0


@pytest.mark.parametrize("options", [(), ("funcgraph-proc", "funcgraph-abstime", "funcgraph-tail")])
def test_a_graph_in_the_kernels_layout(root, tmp_path, capfd, options):
    """What the kernel draws, drawn again from the recording of the same buffer; events among the calls are comments."""
    if "function_graph" not in root.tracers():
        pytest.skip("no function_graph tracer")
    path, words = tmp_path / "trace.dat", [word for option in options for word in ("-O", option)]
    try:
        functions = ["-l", "vfs_*", "-l", "*path_lookupat"]
        assert run(["start", "-p", "function_graph", *functions, *words, "-e", "sched:sched_switch", "-e", "raw_syscalls:sys_enter"]) == 0
        for _ in range(5):
            time.sleep(0.001)
            os.stat("/proc/self")
        assert run(["stop"]) == 0
        capfd.readouterr()
        assert run(["show"]) == 0
        shown = [line for line in capfd.readouterr().out.splitlines() if not line.startswith("#")]
        assert run(["extract", "-q", "-o", str(path)]) == 0
    finally:
        assert run(["reset", "-k", "all"]) == 0
    capfd.readouterr()
    assert run(["report", "--layout", "kernel", *words, "-i", str(path)]) == 0
    drawn = capfd.readouterr().out.splitlines()
    assert drawn == shown and any("vfs_" in line for line in shown) and any("/* sys_enter: " in line for line in shown)


def test_a_killed_recording_is_readable_and_leaves_nothing(root, clean, tmp_path):
    path = tmp_path / "trace.dat"
    child = os.fork()
    if not child:
        try:
            os.setpgid(0, 0)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            # small buffers, so that pages arrive in the file soon
            run(["record", "-q", "-o", str(path), "-b", "64", "-e", "raw_syscalls", "sh", "-c", "while :; do :; done < /dev/null"])
        finally:
            os._exit(1)
    try:
        deadline = time.monotonic() + 60
        size = 0
        while not size and time.monotonic() < deadline:
            for _ in range(2000):
                os.getppid()
            if path.exists():
                try:
                    with open_trace(str(path)) as trace:
                        size = sum(trace.size(place.cpu) for place in trace.buffer().cpus)
                except Exception:  # not yet begun
                    continue
    finally:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert size
    assert sum(events_of(path).values()) > 100
    assert any(name.startswith(f"harken_{child}_") for name in instance_names(root))
    sweep_journals(root.kernel)
    sweep_leftovers(root.kernel)
    assert not any(name.startswith(f"harken_{child}_") for name in instance_names(root))


def test_the_function_graph_of_a_system_call(root, clean, tmp_path, capsys):
    if "function_graph" not in root.tracers():
        pytest.skip("no function_graph tracer")
    path = tmp_path / "trace.dat"
    here = os.getcwd()
    os.chdir(root.root)  # trace-cmd cannot work from there
    try:
        options = ["-p", "function_graph", "-g", "do_sys_openat2", "-O", "funcgraph-proc", "-F", "-b", "16384"]
        assert run(["record", "-o", str(path), *options, "ls", "/"]) == 0
    finally:
        os.chdir(here)
    counts = events_of(path)  # of ls alone (-F), and with room for the interrupts of a slow machine: the first call must not be lost
    assert counts["funcgraph_entry"] > 5 and counts["funcgraph_exit"] > 5
    assert "plugin 'function_graph'" in capsys.readouterr().err
    assert run(["report", str(path)]) == 0
    text = capsys.readouterr().out
    assert "do_sys_openat2() {" in text and "funcgraph_exit" in text
    assert root.read("set_graph_function").startswith("####")
    # few functions: to trace them all takes an emulated machine half a minute
    options = ["-p", "function_graph", "-g", "do_sys_open", "-l", "vfs_open", "-O", "funcgraph-proc"]
    assert run(["record", "-o", str(path), *options, "true"]) == 0
    assert "do_sys_openat2" in capsys.readouterr().err  # nobody calls do_sys_open any more: the hint says what is called


def test_what_cannot_be_recorded_is_told(root, clean, tmp_path):
    path = str(tmp_path / "trace.dat")
    with pytest.raises(ProbeError, match="sched_swich"):
        run(["record", "-o", path, "-e", "sched_swich", "true"])
    with pytest.raises(ProbeError, match="no_such_tracer"):
        run(["record", "-o", path, "-p", "no_such_tracer", "true"])
    with pytest.raises(UsageError, match="nothing to record"):
        run(["record", "-o", path, "true"])
    with pytest.raises(KernelError, match="no buffer called"):
        run(["show", "-B", "harken_no_such"])


def test_a_limit_keeps_the_end(root, clean, tmp_path):
    path = tmp_path / "trace.dat"
    assert (
        run(["record", "-q", "-o", str(path), "-m", "16", "-e", "raw_syscalls", "sh", "-c", "ls / / / / > /dev/null; ls /proc > /dev/null"])
        == 0
    )
    with open_trace(str(path)) as trace:
        assert all(trace.size(place.cpu) <= 16 * 1024 for place in trace.buffer().cpus)
    assert sum(events_of(path).values()) > 0


def test_the_date(root, clean, tmp_path):
    path = tmp_path / "trace.dat"
    assert run(["record", "-q", "--date", "-o", str(path), "-e", "sched:sched_switch", "true"]) == 0
    with open_trace(str(path)) as trace:
        layout = parse_layout(trace.header_page, trace.order, trace.kernel_long)
        first = next(int(walk(bytes(chunk), 4096, layout).times[0]) for place in trace.buffer().cpus for chunk in trace.chunks(place.cpu))
        assert abs(first + trace.date_offset - time.time_ns()) < 120 * 10**9


def test_pages_that_are_larger_than_a_pipe(root, clean, tmp_path):
    if not root.exists("buffer_subbuf_size_kb"):
        pytest.skip("this kernel has pages of one size only (before Linux 6.8)")
    path = tmp_path / "trace.dat"
    words = ["record", "-q", "-o", str(path), "--subbuf-size", "512", "-e", "raw_syscalls", "sh", "-c", ":"]
    assert run(words) == 0
    assert set(events_of(path)) == {"sys_enter", "sys_exit"}
    with open_trace(str(path)) as trace:
        assert trace.buffer().page_size == 512 << 10
