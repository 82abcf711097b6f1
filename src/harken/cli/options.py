"""The command line of ``harken`` itself (``harken -e PROG``, ``harken FILE``): argv -> ``Options``.

A parser of its own: ``argparse`` costs more time to import than a cached program needs to be attached.

Example:
    >>> parse(["-e", "BEGIN { exit(); }", "-q", "1", "2"])[1:3]
    ('BEGIN { exit(); }', ('1', '2'))
    >>> parse(["-pabc"])
    Traceback (most recent call last):
    ...
    harken.base.errors.UsageError: Failed to parse pid: invalid integer: abc
"""

from __future__ import annotations

from ..base.errors import UsageError
from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

__all__ = ("Options", "parse_options", "USAGE", "STAGES")

USAGE = """\
harken - dynamic tracing for Linux

USAGE:
    harken [options] FILE [params]           run a program from a file
    harken [options] - [params]              ... from standard input
    harken [options] -e PROGRAM [params]     ... from the command line
    harken COMMAND [arguments]

COMMANDS:
{commands}

OPTIONS:
    -e PROGRAM          run this program (the last -e counts)
    -l [PATTERN|FILE]   list probes that match, or those of a program
    -p, --pid PID       trace only this process; end when it ends
    -c, --cmd COMMAND   run this command, trace only it, end when it ends
    -o, --output FILE   program output to a file instead of standard output
    -f FORMAT           output format: text (default) or json
    -B MODE             flush output per line (default), full (in blocks) or none (at once)
    -q                  do not tell how many probes were attached
    -v                  more details: the verifier's whole log, what was cached
    -d, --debug STAGE   show a stage: ast, ir, asm, spec, verifier or all
    --no-warnings       no warnings
    --explain           tell which mechanism serves each probe, and why
    --strict            exit status 3 if any event was lost
    --dry-run           end as soon as everything is attached
    --duration SECONDS  end after this time
    --no-cache          compile even if a compiled program is in the cache
    --unsafe            allow functions that change the system
    -V, --version       the version
    -h, --help          this text

Exit status: 0, or what the program asked for with exit(n); 1 error; 2 wrong usage; 3 losses with --strict.

EXAMPLES:
    harken -e 'tracepoint:syscalls:sys_enter_openat {{ printf("%-16s %-6d %s\\n", comm, pid, str(args.filename)); }}'
        print the files that processes open
    harken -e 'tracepoint:raw_syscalls:sys_enter {{ @[comm] = count(); }}'
        count system calls by process; Ctrl-C prints the counts
    harken record make && harken report
        record scheduling and system calls of a command, and show them
    harken graph -x ./program -F main -F 'parse_*' ./program
        who calls whom and for how long
    harken doctor
        tell what this machine allows, and how to allow more
"""

#: Stages that ``-d`` shows.
STAGES = ("ast", "ir", "asm", "spec", "verifier")


class Options(Record):
    """The command line as a value.

    ``program`` is the text of -e, None if a file is given in ``file`` ("-": standard input); ``params`` are positional parameters,
    ``named`` those after ``--``.
    """

    action: str = "run"
    program: str | None = None
    params: tuple[str, ...] = ()
    file: str = ""
    named: tuple[str, ...] = ()
    pid: int = -1
    command: str | None = None
    output: str = ""
    format: str = "text"
    buffering: str = "line"
    quiet: bool = False
    verbose: bool = False
    debug: tuple[str, ...] = ()
    warnings: bool = True
    explain: bool = False
    strict: bool = False
    dry_run: bool = False
    duration: float = -1.0
    cached: bool = True
    unsafe: bool = False


#: spelling -> (field, converter or None for a flag)
_FLAGS: dict[str, tuple[str, Any]] = {
    "-q": ("quiet", True),
    "--quiet": ("quiet", True),
    "-v": ("verbose", True),
    "--verbose": ("verbose", True),
    "--no-warnings": ("warnings", False),
    "--explain": ("explain", True),
    "--strict": ("strict", True),
    "--dry-run": ("dry_run", True),
    "--no-cache": ("cached", False),
    "--unsafe": ("unsafe", True),
    "-V": ("action", "version"),
    "--version": ("action", "version"),
    "-h": ("action", "help"),
    "--help": ("action", "help"),
    "-l": ("action", "list"),
    "--list": ("action", "list"),
    "--info": ("action", "info"),
}


def _pid(text: str) -> int:
    digits = 0
    while digits < len(text) and text[digits].isdecimal() and text[digits].isascii():
        digits += 1
    if not digits:
        raise UsageError(f"Failed to parse pid: invalid integer: {text}")
    if digits < len(text):
        raise UsageError(f"Failed to parse pid: invalid trailing bytes: {text}")
    if not 1 <= int(text[:18]) <= 4194304:
        raise UsageError(f"Pid out of range: {text}")
    return int(text)


def _choice(name: str, *choices: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in choices:
            raise UsageError(f'Invalid {name} "{text}"', f"use one of: {', '.join(choices)}")
        return text

    return check


def _stages(text: str) -> tuple[str, ...]:
    words = tuple([word for word in text.split(",") if word])
    for word in words:
        if word not in STAGES and word != "all":
            raise UsageError(f"there is no stage '{word}' to show", f"use one of: {', '.join(STAGES)}, all")
    return STAGES if "all" in words else words


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise UsageError(f"--duration: not a number of seconds: {text}")
    return seconds


_VALUES: dict[str, tuple[str, Any]] = {
    "-e": ("program", str),
    "-p": ("pid", _pid),
    "--pid": ("pid", _pid),
    "-c": ("command", str),
    "--cmd": ("command", str),
    "-o": ("output", str),
    "--output": ("output", str),
    "-f": ("format", _choice("output format", "text", "json")),
    "--format": ("format", _choice("output format", "text", "json")),
    "-B": ("buffering", _choice("buffer mode", "line", "full", "none")),
    "-d": ("debug", _stages),
    "--debug": ("debug", _stages),
    "--duration": ("duration", _seconds),
}


def parse(argv: Sequence[str]) -> tuple[Any, ...]:
    """The fields of ``parse_options`` as a tuple (for the example above)."""
    return parse_options(argv).__getstate__()


def parse_options(argv: Sequence[str]) -> Options:
    """argv without the program's name -> Options.

    Raises:
        UsageError: an unknown option, a missing or wrong value, contradictions.
    """
    values: dict[str, Any] = {}
    words: list[str] = []
    position, end = 0, len(argv)
    while position < end:
        word = argv[position]
        position += 1
        if word == "--":
            values["named"] = tuple(argv[position:])
            break
        if len(word) < 2 or word[0] != "-" or word[1].isdecimal():
            words.append(word)
            continue
        name, equals, attached = word.partition("=")
        if not word.startswith("--"):
            name, attached, equals = word[:2], word[2:], word[2:3]
            if word in _FLAGS:
                name, attached, equals = word, "", ""
        if name in _FLAGS:
            field, value = _FLAGS[name]
            values[field] = value
            if attached and word.startswith("--"):
                raise UsageError(f"option {name} takes no value")
            if attached:  # -qv
                argv = [*argv[:position], f"-{attached}", *argv[position:]]
                end = len(argv)
            continue
        if name not in _VALUES:
            raise UsageError(f"unknown option {name}", _NOT_HERE.get(name) or _similar(name))
        if not equals:
            if position >= end:
                raise UsageError(f"option {name} needs a value")
            attached = argv[position]
            position += 1
        field, convert = _VALUES[name]
        values[field] = convert(attached)
    if "program" not in values and words and values.get("action") != "list":
        values["file"] = words.pop(0)
    values["params"] = tuple(words)
    options = Options(**values)
    if options.pid > 0 and options.command is not None:
        raise UsageError("options -p and -c cannot be used together")
    return options


#: Options of bpftrace that are not offered: what to do instead.
_NOT_HERE = dict.fromkeys(
    ("-k", "-kk", "--warnings"),
    "failed reads of memory give 0 and are not reported; what maps and buffers could not take is always counted and told at the end",
)


def _similar(name: str) -> str:
    from ..base.diagnostics import nearest

    found = nearest(name, [*_FLAGS, *_VALUES], 1)
    return f"did you mean {found[0]}? 'harken --help' lists all options" if found else "'harken --help' lists all options"
