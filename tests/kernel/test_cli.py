"""The command line as users see it, on the real kernel: output, messages, exit statuses, signals, what is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from harken.cli.main import main
from harken.session.session import TraceSession

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.kernel

OPEN = "tracepoint:syscalls:sys_enter_openat"
COMMAND = [sys.executable, "-c", "from harken.cli.main import script; script()"]


def run(*argv: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(argv)
    out, err = capfd.readouterr()
    return code, out, err


def test_live_opens(capfd: pytest.CaptureFixture[str]) -> None:
    seen = threading.Event()

    def open_it() -> None:
        while not seen.wait(0.02):
            os.close(os.open("/etc/hostname", os.O_RDONLY))

    thread = threading.Thread(target=open_it)
    thread.start()
    wanted = f'pid == {os.getpid()} && str(args.filename) == "/etc/hostname"'
    program = f'{OPEN} /{wanted}/ {{ printf("%-16s %-6d %s\\n", comm, pid, str(args.filename)); exit(); }}'
    try:
        code, out, err = run("-e", program, capfd=capfd)
    finally:
        seen.set()
        thread.join()
    assert code == 0
    assert re.fullmatch(rf".{{16}} {os.getpid():<6} /etc/hostname\n\n\n", out)
    assert err == "Attached 1 probe\n"


def test_the_opensnoop_example(capfd: pytest.CaptureFixture[str]) -> None:
    path = os.path.join(os.path.dirname(__file__), "../../examples/opensnoop.bt")
    if not os.path.exists(path):
        pytest.skip("the examples are not here")
    code, out, _err = run("-c", "grep -q . /etc/hostname", path, capfd=capfd)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["TIME(s)", "COMM", "PID", "FILE"]
    row = next(line for line in lines if line.endswith("/etc/hostname"))
    assert re.fullmatch(r" *\d+\.\d{9} grep +\d+ +/etc/hostname", row)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_print_the_maps(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(number, signal.SIG_IGN)  # one that comes before harken listens does no harm
    timer = threading.Thread(target=_signal_when_attached, args=(number,))
    timer.start()
    try:
        code, out, err = run("-e", 'BEGIN { @[1, "x"] = 2; } interval:s:100 { } END { printf("end\\n"); }', capfd=capfd)
        timer.join()
        assert (code, out, err) == (0, "end\n\n\n@[1, x]: 2\n", "Attached 3 probes\n")
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_signal_right_before_harken_waits(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has noted it then, but calls nobody until the wait is over: what its C handler writes must end the wait."""
    whole = TraceSession.run

    def noted(session: TraceSession) -> None:
        os.write(signal.set_wakeup_fd(-1), bytes([signal.SIGINT]))
        whole(session)

    monkeypatch.setattr(TraceSession, "run", noted)
    assert run("-e", "BEGIN { @ = 1; } interval:s:100 { }", capfd=capfd)[:2] == (0, "\n\n@: 1\n")


def _signal_when_attached(number: int) -> None:
    """Sends the signal once harken handles it."""
    while signal.getsignal(number) == signal.SIG_IGN:
        time.sleep(0.01)
    os.kill(os.getpid(), number)


def test_files_standard_input_and_output(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.bt"
    path.write_text('#!/usr/bin/env harken\nBEGIN { printf("%s\\n", str($1)); exit(3); }\n')
    assert run(str(path), "word", capfd=capfd)[:2] == (3, "word\n\n\n")
    target = tmp_path / "out"
    assert run("-o", str(target), str(path), "a", capfd=capfd)[:2] == (3, "")
    assert target.read_text() == "a\n\n\n"
    reader, writer = os.pipe()
    os.write(writer, b'BEGIN { printf("in\\n"); exit(); }')
    os.close(writer)
    with os.fdopen(reader) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert run("-q", "-", capfd=capfd) == (0, "in\n\n\n", "")


def test_json(capfd: pytest.CaptureFixture[str]) -> None:
    import json

    code, out, _err = run("-f", "json", "-e", 'BEGIN { @a = 1; @h[1, "x"] = hist(5); printf("\\"%s\\"\\n", "q"); exit(); }', capfd=capfd)
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [
        {"type": "attached_probes", "count": 1, "data": {"probes": 1}},
        {"type": "printf", "data": '"q"\n'},
        {"type": "map", "data": {"@a": 1}},
        {"type": "hist", "data": {"@h": {"1,x": [{"min": 4, "max": 7, "count": 1}]}}},
    ]


def test_losses_are_told_and_strict_makes_them_the_status(capfd: pytest.CaptureFixture[str]) -> None:
    program = "config = { max_map_keys = 2 } BEGIN { @a[1] = 1; @a[2] = 1; @a[3] = 1; @a[4] = 1; exit(); }"
    code, _out, err = run("-q", "-e", program, capfd=capfd)
    assert code == 0
    assert err.startswith("WARNING: 2 updates of map @a did not fit: it is full\nHINT: ")
    assert run("-q", "--strict", "-e", program, capfd=capfd)[0] == 3
    code, out, err = run("-f", "json", "--strict", "-e", program, capfd=capfd)
    assert code == 3
    assert '{"type": "lost_events", "data": {"events": 2, "losses": [{"kind": "map", "subject": "@a", "count": 2}]}}' in out
    assert err == ""


def test_the_probes_of_a_program(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = "BEGIN { } tracepoint:syscalls:sys_enter_openat* { }"
    expected = "BEGIN\ntracepoint:syscalls:sys_enter_openat\ntracepoint:syscalls:sys_enter_openat2\n"
    assert run("-l", "-e", program, capfd=capfd) == (0, expected, "")
    path = tmp_path / "x.bt"
    path.write_text(program)
    assert run("-l", str(path), capfd=capfd) == (0, expected, "")


def test_dry_run_explain_and_stages(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run("--dry-run", "--explain", "-e", f"{OPEN} {{ @ = count(); }}", capfd=capfd)
    assert code == 0 and out == ""
    assert f"{OPEN}\n  uses " in err
    code, out, _err = run("--dry-run", "-d", "all", "-e", "BEGIN { @ = count(); }", capfd=capfd)
    assert code == 0
    for section in ("AST", "IR", "SPEC", "ASM", "VERIFIER"):
        assert f"\n{section}\n" in out
    assert "processed" in out and "exit" in out


@pytest.mark.parametrize(
    ("argv", "status", "text"),
    [
        (["-e", "BEGIN { print($x); }"], 1, "stdin:1:15-17: ERROR: Undefined"),
        (["-e", "tracepoint:syscalls:sys_enter_opnat { }"], 1, "sys_enter_openat"),
        (["-e", "tracepoint:syscalls:sys_enter_openat { print(args.filenam); }"], 1, "HINT: did you mean filename?"),
        (["-e", 'BEGIN { printf("%d"); }'], 1, "not enough arguments"),
        (["-e", "\xff\x00"], 1, "ERROR"),
        (["-e", "BEGIN { }", "--", "--bb"], 2, "unexpected program command line options: --bb"),
        (["-c", "/nonexistent", "-e", "BEGIN { }"], 1, "cannot run '/nonexistent'"),
        (["-c", "'", "-e", "BEGIN { }"], 2, "-c:"),
        (["-p", "4194304", "-e", "interval:s:1 { }"], 1, "no process with PID 4194304"),
        (["-o", "/nonexistent/x", "-e", "BEGIN { }"], 2, "failed to open output file"),
    ],
)
def test_bad_input(argv: list[str], status: int, text: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(*argv, capfd=capfd)
    assert (code, out) == (status, "")
    assert text in err and "Traceback" not in err


def test_a_second_start_imports_no_compiler(tmp_path: Path) -> None:
    environment = {**os.environ, "HARKEN_CACHE": str(tmp_path)}
    code = (
        "import sys; from harken.cli.main import main; main(sys.argv[1:]); "
        "print([m for m in sys.modules if m.startswith(('harken.languages', 'harken.compiler.', 'harken.formats.btf'))], file=sys.stderr)"
    )
    argv = [
        sys.executable,
        "-c",
        code,
        "-q",
        "-e",
        f'{OPEN} {{ printf("%s", str(args.filename)); @[comm] = count(); }} BEGIN {{ exit(); }}',
    ]
    first = subprocess.run(argv, env=environment, capture_output=True, check=True).stderr
    assert b"harken.languages.bpftrace.compile" in first
    for _ in range(3):  # harken's own modules, which are part of the cache's key, may be edited just now
        second = subprocess.run(argv, env=environment, capture_output=True, check=True).stderr
        if second == b"['harken.compiler.unit']\n":
            return
    assert second == b"['harken.compiler.unit']\n"


def test_a_reader_that_leaves(tmp_path: Path) -> None:
    program = 'interval:ms:1 { printf("%s\\n", "0123456789"); }'
    process = subprocess.Popen([*COMMAND, "-q", "-e", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"0123456789\n"
    process.stdout.close()
    assert process.wait(30) == 141
    assert process.stderr.read() == b""
    process.stderr.close()
