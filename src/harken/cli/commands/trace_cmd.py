"""``harken trace-cmd``: trace-cmd's commands with trace-cmd's command lines (also installed as ``harken-trace-cmd``).

Each command is a module in ``cli/trace_cmd`` with ``run(argv) -> int``; only the one that is called is imported.  ``docs/trace_cmd.md``
lists commands and options, and where harken differs on purpose.
"""

from __future__ import annotations

import sys
from errno import ENOENT

from ...base.errors import FormatError, HarkenError, KernelError, ProbeError, SourceError, UsageError

__all__ = ("NAME", "HELP", "COMMANDS", "run", "main")

NAME = "trace-cmd"
HELP = "record and report with ftrace: trace-cmd's commands and files"

#: name -> (module in cli/trace_cmd, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "record": ("record", "record a trace into a trace.dat file"),
    "report": ("report", "read out the trace stored in a trace.dat file"),
    "start": ("start", "start tracing without recording into a file"),
    "set": ("start", "set a ftrace configuration parameter"),
    "stop": ("switch", "stop the kernel from recording trace data"),
    "restart": ("switch", "restart the kernel trace data recording"),
    "reset": ("reset", "disable all kernel tracing and clear the trace buffers"),
    "clear": ("switch", "clear the trace buffers"),
    "show": ("show", "show the contents of the kernel tracing buffer"),
    "extract": ("extract", "extract a trace from the kernel"),
    "stream": ("stream", "start tracing and read the output directly"),
    "list": ("list", "list the available events, tracers or options"),
    "stat": ("stat", "show the status of the running tracing (ftrace) system"),
    "snapshot": ("snapshot", "take a snapshot of the running trace"),
    "stack": ("stack", "output, enable or disable kernel stack tracing"),
    "split": ("split", "parse a trace.dat file into smaller files"),
    "convert": ("convert", "convert a trace file to a different version"),
    "restore": ("restore", "restore a crashed record"),
    "dump": ("dump", "read out the meta data from a trace file"),
    "check-events": ("check_events", "parse trace event formats"),
    "mem": ("mem", "show memory usage of certain kmem events"),
    "options": ("options", "list the plugin options available for trace-cmd report"),
    "profile": ("profile", "start profiling and read the output directly"),
    "sqlhist": ("sqlhist", "make histograms and synthetic events of SQL"),
    "hist": ("hist", "show a histogram of the events of a trace.dat file"),
    "listen": ("listen", "listen on a network socket for trace clients"),
}

_GUEST = "record in the guest itself, with 'record -N HOST:PORT' to a 'listen' here"

#: Commands of the real one that harken refuses: why, and what serves instead.
REFUSED = {
    "agent": ("the agent of a guest talks over vsock with a protocol that also synchronises clocks", _GUEST),
    "setup-guest": ("it makes FIFOs for the agent of a guest", _GUEST),
    "attach": ("it joins recordings of host and guest by the clock data of the agent", _GUEST),
}


def run(argv: list[str]) -> int:
    """Runs a command with the arguments after ``trace-cmd``; returns the exit status."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        text = _usage()
        print(text, end="", file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 255
    name, rest = argv[0], argv[1:]
    if name in ("-v", "--version"):
        from ... import __version__

        print(f"harken trace-cmd version {__version__} (command lines and files of trace-cmd 3.1.6 and later)")
        return 0
    if name in REFUSED:
        why, instead = REFUSED[name]
        raise _status(UsageError(f"trace-cmd {name} is not supported: {why}", instead))
    found = COMMANDS.get(name)
    if found is None:
        from ...kernel.ftrace_events import near_names

        near = near_names([*COMMANDS, *REFUSED], name)
        raise _status(
            UsageError(
                f"there is no trace-cmd command {name!r}", f"did you mean {near[0]}?" if near else "'harken trace-cmd --help' lists them"
            )
        )
    try:
        module = __import__(f"harken.cli.trace_cmd.{found[0]}", fromlist=["run"])
        return int(module.run([name, *rest]) if found[0] in ("start", "switch") else module.run(rest))
    except ProbeError as error:
        error.exit_code = ENOENT  # what is asked for does not exist here
        raise
    except (FormatError, KernelError, UsageError, SourceError) as error:
        if isinstance(error, UsageError) and not error.hint:
            error.hint = f"'harken trace-cmd {name} --help' shows its options"
        raise _status(error) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        what = f"{error.filename or repr('')}: " if error.filename is not None else ""
        raise _status(KernelError(f"{what}{error.strerror or error}", errno=error.errno or 0)) from None


def _status(error: HarkenError) -> HarkenError:
    """trace-cmd exits with the errno, or 255 when there is none."""
    error.exit_code = error.errno if isinstance(error, KernelError) and error.errno > 0 else 255  # those of getaddrinfo are negative
    return error


def _usage() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"     {name:<{width}}- {text}" for name, (_, text) in COMMANDS.items()]
    return (
        "\nusage:\n  harken trace-cmd [COMMAND] ...\n\n  commands:\n"
        + "\n".join(lines)
        + "\n\n'harken trace-cmd COMMAND --help' shows a command's options.\n"
    )


def main() -> None:
    """The script ``harken-trace-cmd``."""
    from ..main import script

    script(["trace-cmd", *sys.argv[1:]])
