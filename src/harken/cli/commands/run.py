"""``harken -e PROGRAM``, ``harken FILE``: run a program and show what it puts out.

Ctrl-C (SIGINT) and SIGTERM end the program in order: END probes run, the maps are printed, losses are told, exit status 0.  A second
Ctrl-C ends harken at once.
"""

from __future__ import annotations

import os
import sys

from ...base.diagnostics import Source
from ...base.errors import KernelError, UsageError
from ..options import Options, parse_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from typing import Any

    from ...compiler.unit import Unit
    from ...kernel.kernel import Kernel
    from ...session.command import Command
    from ...session.session import TraceSession
    from ...session.sink import Sink
else:
    import _signal as signal  # the public module wraps it in enums, which take 4 ms to import

__all__ = ("NAME", "HELP", "run")

NAME = "run"
HELP = "run a program"

#: Compiler options that environment variables set, and whether they are numbers.
_CONFIG = {"max_strlen": True, "max_map_keys": True, "max_probes": True, "max_bpf_progs": True, "missing_probes": False}
#: Longest program that is read.
_LIMIT = 16 << 20


def run(argv: Sequence[str]) -> int:
    """Runs ``harken [options] ...``; returns the exit status."""
    options = parse_options(argv)
    if options.action != "run":
        return _other(options, argv)
    source = _source(options)
    from ...kernel.kernel import live

    kernel = live()
    command: Command | None = None
    if options.command is not None:
        command = _command(kernel, options.command)
    try:
        return _run(options, source, kernel, command)
    finally:
        if command is not None:
            command.close()


def _run(options: Options, source: Source, kernel: Kernel, command: Command | None, avoid: tuple[str, ...] = ()) -> int:
    from ...session.build import build
    from ...session.session import TraceSession

    observe = None
    if options.debug:
        from ..debug import observer

        observe = observer(options.debug)
    unit = build(
        source,
        kernel=kernel,
        params=options.params,
        pid=command.pid if command is not None else options.pid,
        settings=(
            *_settings(options),
            *((("avoid", avoid),) if avoid else ()),
            *((("cpid", command.pid),) if command is not None else ()),
        ),
        cached=options.cached and command is None,
        observe=observe,
    )
    if options.debug:
        from ..debug import show_unit

        show_unit(unit, options.debug)
    if options.warnings:
        _warn(unit, source)
    if options.explain:
        from ...render.explain import explain_text

        _notice(explain_text(unit.plan))
    out = _output(options.output)
    try:
        sink = _sink(options, out)
        duration = options.duration if options.duration >= 0 else None
        with TraceSession(
            unit, kernel, sink, pid=options.pid, command=command, duration=duration, log_level=int("verifier" in options.debug)
        ) as session:
            return _live(session, options)
    except KernelError as error:
        from ...session.fallback import next_without, notice

        avoid = next_without(unit, error, avoid) if command is None else ()
        if not avoid:
            raise
        if options.warnings:
            _notice(f"WARNING: {notice(error)}")
    finally:
        if out != 1:
            os.close(out)
    return _run(options, source, kernel, command, avoid)


def _live(session: TraceSession, options: Options) -> int:
    def stop(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # the second one ends us
        session.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    # Python calls ``stop`` when it has the turn: a signal that comes right before it begins to wait would have to wait, too
    fd_before = signal.set_wakeup_fd(session.ending, warn_on_full_buffer=False)
    try:
        session.start()
        if "verifier" in options.debug and session.loaded is not None:
            from ..debug import show_logs

            show_logs(session.loaded.logs)
        if options.dry_run:
            return 0
        session.run()
    finally:
        signal.set_wakeup_fd(fd_before)
        for number, handler in before.items():
            signal.signal(number, handler)
    lost = _tell_losses(session, options)
    if lost and options.strict:
        return 3
    return session.exit_code


def _tell_losses(session: TraceSession, options: Options) -> int:
    rows = [(loss.kind, loss.subject, loss.count) for loss in session.losses]
    if not rows:
        return 0
    total = sum([count for _kind, _subject, count in rows])
    if options.format == "json":
        from ...render.json import lost

        session.sink.emit([lost(total, rows).encode() + b"\n"])
        session.sink.flush()
    else:
        from ...render.ledger import ledger_lines

        _notice("\n".join(ledger_lines(rows)))
    return total


def _other(options: Options, argv: Sequence[str]) -> int:
    """Options that make ``harken`` do something else than run a program."""
    if options.action == "version":
        from ... import __version__

        print(f"harken v{__version__}")
        return 0
    if options.action == "help":
        from ..main import main

        return main(["--help"])
    if options.action == "info":
        from ..main import main

        return main(["doctor"])
    from ..main import main

    words = list(options.params)
    name = words[0] if words and options.program is None else ""
    if options.program is not None or os.path.isfile(name):
        return _probes_of(options.replace(file=name, params=tuple(words[1:])) if name else options)
    if name.endswith(".bt"):
        _notice(f"WARNING: It appears that '{name}' is a filename but the file does not exist. Treating '{name}' as a search pattern.")
    if options.pid > 0:
        words += ["-p", str(options.pid)]
    return main(["list", *words, *(["-v"] if options.verbose else [])])


def _probes_of(options: Options) -> int:
    """``-l -e PROGRAM``, ``-l FILE``: the probes that a program would attach."""
    from ...session.build import build

    unit = build(_source(options), params=options.params, pid=options.pid, settings=_settings(options), cached=options.cached)
    for probe, *_rest in unit.plan:
        print(probe)
    return 0


def _source(options: Options) -> Source:
    if options.program is not None:
        return Source("stdin", options.program)
    if not options.file:
        raise UsageError("no program given", "harken -e 'PROGRAM', or the name of a file")
    if options.file == "-":
        return Source("stdin", _decode(sys.stdin.buffer.read(_LIMIT + 1), "standard input"))
    try:
        with open(options.file, "rb") as file:
            data = file.read(_LIMIT + 1)
    except OSError as error:
        hint = "a program on the command line goes after -e" if any(c in options.file for c in "{} ") else ""
        raise UsageError(f"failed to open file '{options.file}': {error.strerror}", hint) from None
    return Source(options.file, _decode(data, options.file))


def _decode(data: bytes, name: str) -> str:
    if len(data) > _LIMIT:
        raise UsageError(f"{name} is too large for a program: more than {_LIMIT >> 20} MiB")
    if data.startswith(b"\xef\xbb\xbf"):  # the mark that some editors put before UTF-8
        data = data[3:]
    return data.decode("utf-8", "surrogateescape")


def _command(kernel: Kernel, text: str) -> Command:
    import shlex

    from ...session.command import Command

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"-c: {error}: {text}") from None
    return Command(kernel, words)


def _settings(options: Options) -> tuple[tuple[str, Any], ...]:
    """Options that the compiler has to know."""
    settings: list[tuple[str, Any]] = []
    if options.unsafe:
        settings.append(("unsafe", True))
    if options.named:
        raise UsageError(f"unexpected program command line options: {' '.join(options.named)}", "the program takes no named options")
    for name, number in _CONFIG.items():
        text = os.environ.get(f"BPFTRACE_{name.upper()}")
        if text is None:
            continue
        if number and not (text.isascii() and text.isdecimal()):
            raise UsageError(f"{name}: expecting a number, got {text}", f"from the environment variable BPFTRACE_{name.upper()}")
        settings.append((name, int(text) if number else text))
    return tuple(settings)


def _warn(unit: Unit, source: Source) -> None:
    if not unit.warnings:
        return
    from ...render.diagnostic import warning_text

    for position, message, hint in unit.warnings:
        _notice(warning_text(position, message, hint, (source.name, source.text)))


def _output(path: str) -> int:
    if not path:
        return 1
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError(f"failed to open output file '{path}': {error.strerror}") from None


def _sink(options: Options, out: int) -> Sink:
    from ...render.text import Writer

    writer = Writer(out, options.buffering)
    if options.format == "json":
        from ...session.output_json import JsonSink

        return JsonSink(writer, quiet=options.quiet)
    from ...session.output import TextSink

    quiet, warnings = options.quiet, options.warnings

    def notice(text: str) -> None:
        if text.startswith("Attached "):
            if not quiet:
                _notice(text)
        elif warnings:
            _notice(text)

    return TextSink(writer, notice)


def _notice(text: str) -> None:
    data = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").encode() + b"\n"
    try:
        os.write(2, data)
    except OSError:
        pass
