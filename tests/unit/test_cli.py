"""The command line: argv -> options, errors as text, exit statuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harken.base.diagnostics import Source, error
from harken.base.errors import HarkenError, KernelError, LossError, SourceError, UsageError, VerifierError
from harken.cli import main as cli
from harken.cli.options import Options, parse_options
from harken.render.diagnostic import diagnostic_text, error_text, warning_text
from harken.render.explain import explain_text
from harken.render.ledger import KINDS, ledger_lines


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["-e", "X"], {"program": "X"}),
        (["-eX"], {"program": "X"}),
        (["-e", "A", "-e", "B", "1", "-5"], {"program": "B", "params": ("1", "-5")}),
        (["f.bt", "a", "b"], {"file": "f.bt", "params": ("a", "b")}),
        (["f.bt", "a", "-p", "7"], {"file": "f.bt", "params": ("a",), "pid": 7}),
        (["-", "a"], {"file": "-", "params": ("a",)}),
        (["-qv", "f"], {"file": "f", "quiet": True, "verbose": True}),
        (["-p12", "f"], {"file": "f", "pid": 12}),
        (["--pid=12", "f"], {"file": "f", "pid": 12}),
        (["--pid", "12", "f"], {"file": "f", "pid": 12}),
        (["-c", "ls -l", "f"], {"file": "f", "command": "ls -l"}),
        (["-c", "", "f"], {"file": "f", "command": ""}),
        (["-fjson", "-B", "full", "-o", "out", "f"], {"file": "f", "format": "json", "buffering": "full", "output": "out"}),
        (["-d", "ast,ir", "f"], {"file": "f", "debug": ("ast", "ir")}),
        (["--debug=all", "f"], {"file": "f", "debug": ("ast", "ir", "asm", "spec", "verifier")}),
        (["--strict", "--explain", "--dry-run", "--no-warnings", "f"],
         {"file": "f", "strict": True, "explain": True, "dry_run": True, "warnings": False}),
        (["f", "x", "--", "--name=1", "-q"], {"file": "f", "params": ("x",), "named": ("--name=1", "-q")}),
        (["-l", "*open*"], {"action": "list", "params": ("*open*",)}),
        (["--duration", "1.5", "f"], {"file": "f", "duration": 1.5}),
    ],
)  # fmt: skip
def test_options(argv: list[str], expected: dict[str, Any]) -> None:
    assert parse_options(argv) == Options(**expected)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-p", "a1111", "f"], "Failed to parse pid: invalid integer: a1111"),
        (["-p", "111a1", "f"], "Failed to parse pid: invalid trailing bytes: 111a1"),
        (["-p", "5000000", "f"], "Pid out of range: 5000000"),
        (["-p", "0", "f"], "Pid out of range: 0"),
        (["-p", "9" * 5000, "f"], "Pid out of range"),
        (["-p", "1", "-c", "ls", "f"], "cannot be used together"),
        (["-k", "f"], "unknown option -k"),
        (["-f", "jsonx", "f"], 'Invalid output format "jsonx"'),
        (["-B", "x", "f"], "Invalid buffer mode"),
        (["-d", "x", "f"], "no stage 'x'"),
        (["-e"], "needs a value"),
        (["--bogus"], "unknown option --bogus"),
        (["-Z"], "unknown option -Z"),
        (["--strict=yes", "f"], "takes no value"),
        (["--duration", "x", "f"], "not a number"),
        (["--duration", "nan", "f"], "not a number"),
    ],
)
def test_wrong_options(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=".*") as caught:
        parse_options(argv)
    assert message in str(caught.value)
    assert cli.main(argv) == 2
    assert f"ERROR: {caught.value}" in capsys.readouterr().err


def test_near_misses_are_suggested() -> None:
    with pytest.raises(UsageError) as caught:
        parse_options(["--verbos"])
    assert "--verbose" in caught.value.hint


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "USAGE" in out and "doctor" in out and "{" not in out.split("EXAMPLES")[0]
    assert cli.main([]) == 2
    assert "USAGE" in capsys.readouterr().err
    assert cli.main(["-V"]) == 0
    assert capsys.readouterr().out.startswith("harken v")


@pytest.mark.parametrize(
    ("problem", "code", "text"),
    [
        (HarkenError("it broke", "fix it"), 1, "ERROR: it broke\nHINT: fix it\n"),
        (KernelError("no", call="bpf()", errno=1), 1, "ERROR: no\n"),
        (LossError("lost"), 3, "ERROR: lost\n"),
        (FileNotFoundError(2, "No such file or directory", "/x"), 1, "ERROR: No such file or directory: /x\n"),
        (ValueError("oops"), 1, "ERROR: internal error: ValueError: oops\n"),
        (RecursionError("deep"), 1, "ERROR: internal error: RecursionError: deep\n"),
    ],
)
def test_errors_are_text(
    problem: Exception, code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_argv: object) -> int:
        raise problem

    monkeypatch.setattr("harken.cli.commands.run.run", fail)
    assert cli.main(["-e", "x"]) == code
    assert capsys.readouterr().err.startswith(text)
    monkeypatch.setenv("HARKEN_DEBUG", "1")
    with pytest.raises(type(problem)):
        cli.main(["-e", "x"])


def test_a_reader_that_leaves_ends_quietly() -> None:
    code = "import sys; from harken.cli.main import script; sys.argv = ['harken', '--help']; script()"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_missing_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["/nonexistent.bt"]) == 2
    assert "failed to open file '/nonexistent.bt'" in capsys.readouterr().err
    assert cli.main(["-q"]) == 2
    assert "no program given" in capsys.readouterr().err


def test_what_help_imports() -> None:
    code = "import sys; from harken.cli.main import main; main(['--help']); print(sorted(m for m in sys.modules if m in {0}))"
    heavy = ("re", "enum", "dataclasses", "typing", "functools", "contextlib", "argparse", "json", "subprocess", "inspect", "logging")
    done = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; " + code.format(repr(heavy))],
                          stdout=subprocess.PIPE, check=True)  # fmt: skip
    assert done.stdout.decode().splitlines()[-1] == "[]"


SOURCE = Source("stdin", "BEGIN {\n\t$x = foo;\n}")


def test_diagnostics() -> None:
    start = SOURCE.text.index("foo")
    text = diagnostic_text(error("Undefined: foo", SOURCE.span(start, start + 3), "did you mean for?"))
    assert text == "stdin:2:7-10: ERROR: Undefined: foo\n\t$x = foo;\n\t     ~~~\nHINT: did you mean for?"
    assert diagnostic_text(error("whole", SOURCE.span(0, len(SOURCE.text)))) == "stdin:1-3: ERROR: whole\nBEGIN {"
    assert diagnostic_text(error("nowhere")) == "ERROR: nowhere"
    end = diagnostic_text(error("at the end", SOURCE.span(len(SOURCE.text), len(SOURCE.text))))
    assert end.endswith("\n}\n ~")
    related = diagnostic_text(error("again", SOURCE.span(9, 11), "", ((SOURCE.span(0, 5), "first here"),)))
    assert "stdin:1:1-6: NOTE: first here\nBEGIN {\n~~~~~" in related


def test_diagnostics_of_hostile_sources() -> None:
    source = Source("x", "a" * 100_000 + "\x1b[31m" + "b" * 100_000)
    text = diagnostic_text(error("no", source.span(100_000, 100_005)))
    assert len(text) < 10_000 and "\x1b" not in text
    lines = text.split("\n")
    assert lines[1][lines[2].index("~") :].startswith("?[31m")


def test_warnings_of_units() -> None:
    text = warning_text("stdin:2:7-10", "odd", "hint", ("stdin", SOURCE.text))
    assert text == "stdin:2:7-10: WARNING: odd\n\t$x = foo;\n\t     ~~~\nHINT: hint"
    assert warning_text("", "odd") == "WARNING: odd"
    assert warning_text("stdin:99:1-2", "odd", "", ("stdin", SOURCE.text)) == "stdin:99:1-2: WARNING: odd"


def test_errors() -> None:
    many = SourceError((error("one", SOURCE.span(0, 5)), error("two", SOURCE.span(9, 11))))
    assert error_text(many).count("ERROR") == 2
    refused = VerifierError("reads past the end", log="0: R1=ctx()\n1: bad", hint="check the bounds")
    assert error_text(refused).splitlines() == [
        "ERROR: reads past the end",
        "HINT: check the bounds",
        "NOTE: -v shows the verifier's whole log",
    ]
    assert error_text(refused, full=True).endswith("1: bad")


def test_ledger() -> None:
    assert ledger_lines([]) == []
    lines = ledger_lines([("ring", "printf at stdin:1:1-2", 1), ("ring", "print at stdin:1:4-5", 2), ("map", "@x", 5)])
    assert [line.split(":")[0] for line in lines] == ["WARNING", "WARNING", "HINT", "WARNING", "HINT"]
    assert "1 event of" in lines[0] and "2 events of" in lines[1]
    for kind in KINDS:
        first, hint = ledger_lines([(kind, "subject", 7)])
        assert "7" in first and "{" not in first + hint
    assert ledger_lines([("new kind", "s", 1)]) == ["WARNING: 1 new kind lost (s)"]


def test_explain_joins_what_is_alike() -> None:
    rows = [(f"kprobe:f{n}", "kprobe_multi", "fast", (("fentry", "no BTF"),)) for n in range(3)] + [("BEGIN", "run", "", ())]
    assert explain_text(rows) == "kprobe:f0 and 2 more\n  uses kprobe_multi: fast\n  not fentry: no BTF\nBEGIN\n  uses run"


def test_long_lines_are_shown_around_the_place() -> None:
    text = "x" * 100_000 + " nope " + "y" * 100_000
    shown = diagnostic_text(error("Unknown", Source("stdin", text).span(100_001, 100_005)))
    _message, line, marks = shown.splitlines()
    assert len(line) < 1000
    assert [line[i] for i, mark in enumerate(marks) if mark == "~"] == list("nope")


def test_files_that_are_no_programs(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from harken.cli.commands import run

    marked = tmp_path / "bom.bt"
    marked.write_bytes(b"\xef\xbb\xbfBEGIN { }")
    assert run._source(Options(file=str(marked))).text == "BEGIN { }"
    monkeypatch.setattr(run, "_LIMIT", 10)
    assert cli.main([str(marked)]) == 2
    assert "too large for a program" in capsys.readouterr().err


_WRITES = """
import os, sys
from harken.cli.main import _standard_descriptors
_standard_descriptors()
fd = os.eventfd(0)
sys.stderr.write("ok %d" % fd)
sys.stderr.flush()
try:
    os.write(1, b"12345678")
except OSError as error:
    os._exit(error.errno)
os._exit(0)
"""


def _with_closed(*fds: int) -> subprocess.CompletedProcess[bytes]:
    starter = "import os, sys\nfor fd in sys.argv[2:]: os.close(int(fd))\nos.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
    return subprocess.run([sys.executable, "-c", starter, _WRITES, *map(str, fds)], capture_output=True)


def test_closed_standard_descriptors_are_not_taken_by_others() -> None:
    assert (_with_closed().stdout, _with_closed().stderr) == (b"12345678", b"ok 3")
    closed = _with_closed(1)
    assert closed.returncode == 9 and closed.stderr == b"ok 3"  # EBADF
    assert _with_closed(0, 2).stdout == b"12345678"
    assert _with_closed(0, 1, 2).returncode == 9


@pytest.mark.parametrize("argv", [["--help"], ["list", "software:*"], ["trace-cmd", "report", "--help"]])
def test_output_that_nobody_can_take_is_an_error(argv: list[str]) -> None:
    starter = (
        "import os, sys\nif sys.argv[1] == 'closed': os.close(1)\nelse: os.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'harken', *sys.argv[2:]])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for how, reason in (("closed", "Bad file descriptor"), ("full", "No space left on device")):
        ended = subprocess.run([sys.executable, "-c", starter, how, *argv], stderr=subprocess.PIPE, text=True, env=environment)
        assert ended.returncode == 1 and ended.stderr.startswith("ERROR: ") and ended.stderr.endswith(f"{reason}\n")


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("name", ["harken", "harken-trace-cmd"])
def test_an_interrupt_while_harken_is_being_imported(tmp_path: Path, name: str, ignored: bool) -> None:
    package = tmp_path / "harken"
    commands = package / "cli/commands"
    commands.mkdir(parents=True)
    for folder in (package, package / "cli", commands):
        (folder / "__init__.py").touch()
    (package / "__init__.py").write_text("import os\nos.kill(os.getpid(), 2)\n")
    (package / "cli/main.py").write_text("def script(): print('ran')\n")
    (commands / "trace_cmd.py").write_text("def main(): print('ran')\n")
    start = "import os, _signal; _signal.signal(2, _signal.SIG_IGN if {} else _signal.SIG_DFL); os.execv({!r}, [{!r}, {!r}])"
    script = str(Path(__file__).parents[2] / "bin" / name)
    done = subprocess.run(
        [sys.executable, "-c", start.format(ignored, sys.executable, sys.executable, script)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == ((0, "ran\n", "") if ignored else (-2, "", ""))
