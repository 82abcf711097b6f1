"""Recordings of harken read by trace-cmd 3.1.6 and the reverse: the same text line for line.

The recordings are made once, on this kernel, of what a few commands do; both tools report each of them in many ways.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harken.formats.trace_dat_compress import codec
from harken.formats.trace_dat_pages import PageBuilder
from harken.formats.trace_dat_parts import BufferSource, CpuSource
from harken.formats.trace_dat_writer import write_trace
from harken.testing.trace_dat_builder import parts, payload

pytestmark = [pytest.mark.oracle, pytest.mark.needs("tracefs")]

if os.geteuid() != 0 or shutil.which("trace-cmd") is None:
    pytest.skip("needs root and trace-cmd", allow_module_level=True)

HARKEN = [sys.executable, "-m", "harken", "trace-cmd"]
WORK = ["sh", "-c", "ls / > /dev/null; cat /proc/self/stat > /dev/null; ls /proc > /dev/null"]

#: name -> options of record
RECORDINGS = {
    "v6": ["--file-version", "6", "-e", "sched", "-e", "raw_syscalls"],
    "v7": ["--compression", "none", "-e", "sched", "-e", "raw_syscalls"],
    "stacks": ["--compression", "none", "-e", "sched:sched_switch", "-T"],
    "filtered": ["--compression", "none", "-e", "sched:sched_switch", "-f", "prev_pid > 0", "-e", "syscalls:sys_enter_openat", "-F", "-c"],
    "buffers": ["--compression", "none", "-e", "sched:sched_switch", "-B", "one", "-e", "raw_syscalls:sys_enter", "-B", "two", "-e", "irq"],
    "buffers6": ["--file-version", "6", "-e", "sched:sched_switch", "-B", "one", "-e", "raw_syscalls:sys_enter", "-C", "mono"],
    "mono": ["--compression", "none", "-C", "mono", "-e", "sched:sched_switch", "-e", "timer"],
    "syscalls": ["--compression", "none", "-e", "syscalls", "-F", "-c"],
    "date": ["--compression", "none", "--date", "-e", "sched:sched_switch"],
    "small": ["--compression", "none", "-b", "16", "-e", "raw_syscalls", "-e", "sched"],
}
if codec("zstd").writes:
    RECORDINGS["zstd"] = ["--compression", "zstd", "-e", "sched", "-e", "raw_syscalls", "-B", "one", "-e", "irq"]


def run(*words, check=True):
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=120)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for name, options in RECORDINGS.items():
        own = [word if word not in ("one", "two") else f"harken_test_{os.getpid()}_{word}" for word in options]
        run(*HARKEN, "record", "-q", "-o", str(folder / f"{name}.dat"), *own, *WORK)
    return folder


def same(words):
    theirs, ours = run("trace-cmd", *words, check=False), run(*HARKEN, *words, check=False)
    assert ours.returncode == theirs.returncode, ours.stderr
    assert ours.stdout.split("\n") == theirs.stdout.split("\n")
    return ours.stdout


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_report_of_our_recordings(recordings, name):
    theirs = run("trace-cmd", "report", "-i", str(recordings / f"{name}.dat")).stdout.split("\n")
    ours = run(*HARKEN, "report", "-i", str(recordings / f"{name}.dat")).stdout.split("\n")
    assert len(ours) == len(theirs) > 5
    assert differing(theirs, ours, "\n".join(ours)) == []


def differing(theirs, ours, text):
    """The pairs of lines that are not equal, but for tasks that only one of the two can name; ``text`` is the whole recording."""
    pairs = [pair for pair in zip(theirs, ours) if pair[0] != pair[1] and "<...>" not in pair[0]]
    return [pair for pair in pairs if not named_late(*pair, text)]


def named_late(one, other, text):
    """The file and sched events give the task two names, one from before it ran its program: the programs take one each.

    For trace-cmd it matters whether the idle task is the first to tell its name, which is the case if a CPU was idle.
    """
    (_, pid, rest), (name, *same_task) = (re.fullmatch(r"(?:harken_test_\w+:)? *(.+?)-(\d+)( .*)", line).groups() for line in (one, other))
    return same_task == [pid, rest] and f" {name}:{pid} [" in text


@pytest.mark.parametrize(
    "options",
    [
        ["-R"], ["-R", "-l"], ["-l"], ["-t"], ["-w"], ["-N"], ["--cpu", "1"], ["--ts-diff"], ["--align-ts"], ["--raw-ts"], ["-I"], ["-S"],
        ["-F", "sched_switch: prev_pid > 0 && next_prio < 200"], ["-F", "sched_switch,sched_wakeup.*"], ["-v", "-F", "sys_.*"],
        ["-F", ".*: COMM == \"ls\""], ["-F", "raw_syscalls/sys_enter: id == 0"], ["-r", "sched_switch"], ["-n", "sched_switch"],
        ["--cpus"], ["--first-event", "--last-event"], ["--stat"], ["--uname"], ["--version"], ["-e"], ["-E"], ["-f"], ["-P"], ["--events"],
        ["-T", "-F", "sched_switch: prev_pid == 0 || (next_pid > 3)"], ["-T", "-F", "sched: prev_pid == 1 && bogus == 2"],
        ["-T", "-F", "sched: !(bogus == 1) && pid > 1"], ["--check-events"], ["-L"], ["-r", "sys.*"], ["-r", "SCHED"], ["-n", "sched.*"],
        ["-n", "sched_sw"], ["--pid", "0"], ["--comm", "ls"], ["--event", "sched:SW"], ["--event", "sys_"], ["--event", "x:y"],
        ["--first-event", "--raw-ts"], ["--kallsyms", "/proc/kallsyms"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_ways_to_report(recordings, options):
    words = ["report", *options, "-i", str(recordings / "v6.dat")]
    theirs, ours = run("trace-cmd", *words, check=False), run(*HARKEN, *words, check=False)
    assert ours.returncode == theirs.returncode == 0, ours.stderr
    assert theirs.stdout.count("\n") == ours.stdout.count("\n")
    whole = run(*HARKEN, "report", "-i", str(recordings / "v6.dat")).stdout
    assert differing(theirs.stdout.split("\n"), ours.stdout.split("\n"), whole) == []


@pytest.mark.parametrize("options", [[], ["-I"], ["-S"], ["-I", "-S"], ["-l"]], ids=" ".join)
def test_interrupts_within_interrupts(tmp_path, options):
    """Records with all sets of flags: a hard interrupt may come in a soft one."""
    builder = PageBuilder(4096)
    for flags in range(256):
        builder.add(1000 * flags, payload(7, flags, 1, flags=flags))
    pages = builder.finish()
    with open(tmp_path / "flags.dat", "w+b") as file:
        source = CpuSource(0, 4096 * len(pages), lambda: pages)
        write_trace(file.fileno(), parts((1,)), [BufferSource("", "local", 4096, (source,))], 6, "none")
    shown = same(["report", *options, "-i", str(tmp_path / "flags.dat")])
    assert shown.count("value=") == 256 >> len({"-I", "-S"} & {*options})


@pytest.mark.parametrize("options", [["--first-event"], ["--last-event", "--nodate"], ["--first-event", "-t"]], ids=" ".join)
def test_dates_of_first_and_last_events(recordings, options):
    same(["report", *options, "-i", str(recordings / "date.dat")])


@pytest.mark.parametrize("text", ["sched_switch", "sched_switch: prev_pid != 0", "sched_switch: prev_prio < 0", "kernel_stack"])
def test_stacks_stay_with_their_records(recordings, text):
    words = ["report", "-t", "-F", text, str(recordings / "stacks.dat")]  # nanoseconds: no two records of a CPU have the same time
    theirs, ours = run("trace-cmd", *words).stdout, run(*HARKEN, *words).stdout
    whole = run(*HARKEN, "report", "-t", str(recordings / "stacks.dat")).stdout
    theirs = without_strays(theirs, whole) if text != "kernel_stack" else theirs
    assert theirs.count("\n") == ours.count("\n")
    assert differing(theirs.split("\n"), ours.split("\n"), whole) == []


def without_strays(text, whole):
    """A report without stacks of records that are not in it: once 3.1.6 has printed a record of a CPU it prints all stacks of that CPU."""
    records, everything = (re.findall(r"^ .+\n(?:=>.*\n)*", report, re.MULTILINE) for report in (text, whole))
    printed = {place(record) for record in records}
    strays, owner_printed = set(), {}
    for cpu, time, kind in map(place, everything):
        if kind != "kernel_stack":
            owner_printed[cpu] = (cpu, time, kind) in printed
        elif not owner_printed.get(cpu):
            strays.add((cpu, time, kind))
    head = re.match(r"(?:[^ ].*\n)*", text)[0]
    return head + "".join(record for record in records if place(record) not in strays)


def place(record):
    return re.match(r" *.+?-\d+ +\[(\d+)\] +([\d.]+): (\w+):", record).groups()


@pytest.mark.parametrize("text", ["nosuch", "sched_switch,nosuch", "nosuch: a == 1", "sched_switch: prev_comm == ls", "sched_w*"])
def test_filters_that_mean_nothing_are_refused(recordings, text):
    words = ["report", "-F", text, str(recordings / "v6.dat")]
    theirs, ours = run("trace-cmd", *words, check=False), run(*HARKEN, *words, check=False)
    assert ours.returncode == theirs.returncode == 255 and ours.stdout == ""


def test_two_files_in_one_order(recordings):
    words = ["report", "-i", str(recordings / "v7.dat"), "-i", str(recordings / "filtered.dat")]
    theirs, ours = run("trace-cmd", *words).stdout.split("\n"), run(*HARKEN, *words).stdout.split("\n")
    assert len(theirs) == len(ours)
    assert differing(theirs, ours, "\n".join(ours)) == []


@pytest.mark.parametrize("name", ["v6", "v7", "buffers", "buffers6", *(["zstd"] if "zstd" in RECORDINGS else [])])
@pytest.mark.parametrize(
    "part", ["--summary", "--events", "--systems", "--ftrace-events", "--head-page", "--cmd-lines", "--options", "--flyrecord"]
)
def test_what_dump_shows(recordings, name, part):
    same(["dump", part, "-i", str(recordings / f"{name}.dat")])


@pytest.mark.parametrize("name", RECORDINGS)
def test_trace_cmd_finds_our_files_valid(recordings, name):
    assert "is a valid trace-cmd file" in run("trace-cmd", "dump", "-v", "-i", str(recordings / f"{name}.dat")).stdout


@pytest.mark.parametrize(
    "options", [["--compression", "none"], ["--compression", "zstd"], ["--file-version", "7", "--compression", "any"]], ids=" ".join
)
def test_we_read_what_trace_cmd_converts(recordings, tmp_path, options):
    if "none" not in options and not codec("zstd").writes:
        pytest.skip("no zstd here")
    source, target = str(recordings / "v6.dat"), str(tmp_path / "theirs.dat")
    run("trace-cmd", "convert", "-i", source, "-o", target, *options)
    assert run(*HARKEN, "report", "-i", target).stdout == run(*HARKEN, "report", "-i", source).stdout
    assert run(*HARKEN, "dump", "-v", "-i", target).returncode == 0


def test_we_read_what_trace_cmd_splits_and_restores(recordings, tmp_path):
    source = str(recordings / "v6.dat")
    run("trace-cmd", "split", "-i", source, "-o", str(tmp_path / "part"), "-e", "100")
    (part,) = list(tmp_path.glob("part*"))
    whole = run(*HARKEN, "report", "-i", source).stdout.split("\n")
    assert run(*HARKEN, "report", "-i", str(part)).stdout.split("\n")[:-1] == whole[:101]


# with -r trace-cmd loses records of CPUs that have none in the part before; -p: where it ends a page depends on the page it was in before
@pytest.mark.parametrize(
    "options",
    [["-e", "100"], ["-e", "50", "-c"], ["-m", "3"], ["-m", "2", "-c"], ["-C", "1"], ["-e", "30", "-C", "0"], ["-r"]],
    ids=" ".join,
)
def test_parts_are_those_of_trace_cmd(recordings, tmp_path, options):
    for name, program in (("theirs", ["trace-cmd"]), ("ours", HARKEN)):
        (tmp_path / name).mkdir()
        run(*program, "split", "-i", str(recordings / "v6.dat"), "-o", str(tmp_path / name / "part"), *options)
    names = sorted(path.name for path in (tmp_path / "theirs").iterdir())
    assert sorted(path.name for path in (tmp_path / "ours").iterdir()) == names
    for name in names:
        theirs, ours = (run("trace-cmd", "report", "-R", str(tmp_path / folder / name)).stdout for folder in ("theirs", "ours"))
        assert ours == theirs


def test_who_allocated_how_much(tmp_path):
    events = [word for event in ("kmalloc", "kfree", "kmem_cache_alloc", "kmem_cache_free") for word in ("-e", f"kmem:{event}")]
    run(*HARKEN, "record", "-q", "-o", str(tmp_path / "mem.dat"), "--file-version", "6", *events, *WORK)
    theirs, ours = (sorted(run(*program, "mem", str(tmp_path / "mem.dat")).stdout.split("\n")) for program in (["trace-cmd"], HARKEN))
    assert ours == theirs and len(ours) > 10


def test_trace_cmd_reads_our_parts(recordings, tmp_path):
    source = str(recordings / "v7.dat")
    run(*HARKEN, "split", "-i", source, "-o", str(tmp_path / "part"), "-e", "150", "-r")
    found = []
    for part in sorted(tmp_path.glob("part.*")):
        found += run("trace-cmd", "report", "-R", "-i", str(part)).stdout.split("\n")[1:-1]
    assert found == run("trace-cmd", "report", "-R", "-i", source).stdout.split("\n")[1:-1]


@pytest.mark.parametrize(
    "words",
    [
        ["list", "-e"], ["list", "-e", "sched"], ["list", "-e", "^sched$:switch", "-F"], ["list", "-e", "sched_switch", "-F", "--full"],
        ["list", "-e", "sched_switch", "-l"], ["list", "-e", "sched_switch", "-R"], ["list", "-t"], ["list", "-o"], ["list", "-C"],
        ["list", "-s"], ["list", "-O"], ["options"], ["show", "--cpumask", "--tracing_on"], ["show", "-c", "0", "-f"],
        ["report", "nosuch.dat"], ["report", "/etc/passwd"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_is_listed(words):
    same(words)


def listened(port):
    """Whether somebody waits for connections there; to connect would be one."""
    tables = [table.read_text() for table in Path("/proc/net").glob("tcp*")]
    rows = [line.split() for line in "".join(tables).splitlines()]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


@pytest.mark.parametrize("options", [[], ["-t"]], ids=["udp", "tcp"])
def test_trace_cmd_listens_to_us(tmp_path, options):
    import signal
    import socket
    import time

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    listening = subprocess.Popen(["trace-cmd", "listen", "-p", str(port), "-d", str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not listened(port):
            assert time.monotonic() < deadline and listening.poll() is None
            time.sleep(0.05)
        place = f"127.0.0.1:{port}"
        run(*HARKEN, "record", "-N", place, *options, "-e", "sched:sched_process_exec", "-F", "-c", "sh", "-c", "ls / > /dev/null")
        theirs, ours = "", "?"
        while time.monotonic() < deadline and ("sched_process_exec" not in theirs or theirs != ours):  # it is put together at the end
            time.sleep(0.5)
            files = [str(file) for file in tmp_path.glob("trace.*.dat")]
            theirs, ours = [run(*words, "report", "-i", *files, check=False).stdout if files else "" for words in (["trace-cmd"], HARKEN)]
        assert "filename=/usr/bin/ls" in theirs or "filename=/bin/ls" in theirs
        assert theirs == ours
    finally:
        listening.send_signal(signal.SIGINT)
        listening.communicate(timeout=20)


@pytest.mark.parametrize("version", [6, 7])
def test_the_text_of_a_tracer_of_latencies(tmp_path, version):
    """What record makes of wakeup and its like; the text is what such a tracer's trace file holds."""
    from harken.formats.trace_dat_parts import BufferSource
    from harken.formats.trace_dat_writer import write_trace
    from harken.kernel.kernel import live
    from harken.kernel.tracefs import find
    from harken.session.recorder_ftrace_parts import collect

    text = b"# tracer: wakeup\n#\n  <idle>-0       0dNh4.    2us!:        0:120:R   + [000]      18: 98:R ktimers/0\n => ttwu_do_activate\n"
    path = str(tmp_path / "trace.dat")
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        parts = collect(find(live()), [("sched", "sched_switch")])
        write_trace(fd, parts, [BufferSource("", "local", 4096, text=text)], version, "none")
    finally:
        os.close(fd)
    if version == 7:
        assert "ktimers/0" in same(["report", "-i", path])
    else:  # of version 6, also of its own files, trace-cmd 3.1.6 leaves the first eight bytes of the text out
        assert text.decode() in run(*HARKEN, "report", "-i", path).stdout
