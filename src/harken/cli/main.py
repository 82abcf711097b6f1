"""Entry point of the ``harken`` command.

``harken COMMAND ...`` imports only the module of that command; everything else goes to ``commands/run.py``.  Each module there has

* ``NAME``, ``HELP``: what stands in ``harken --help``;
* ``run(argv) -> int``: argv without the command's name -> exit status.

Errors of harken become text here (those of ``list`` and ``symbolize`` in ``cli.guarded``): no traceback unless ``HARKEN_DEBUG`` is set.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
else:
    import _signal as signal  # the public module wraps it in enums, which take 4 ms to import

__all__ = ("COMMANDS", "main", "script")

#: name -> (module in cli/commands, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run", "run a program (the default: 'harken -e ...' is 'harken run -e ...')"),
    "list": ("list", "list what can be traced"),
    "symbolize": ("symbolize", "turn addresses of the kernel, of processes and of files into names"),
    "graph": ("graph", "show who calls whom and how long it takes, of kernel or user functions"),
    "record": ("record", "record events and calls of the kernel into a file"),
    "report": ("report", "show a recording of the kernel's events as text or JSON"),
    "stream": ("stream", "print events and calls of the kernel as they happen"),
    "hist": ("hist", "count events of the kernel by their fields: tables and plots"),
    "bcc": ("bcc", "run a Python script that was written for BCC"),
    "build": ("build", "compile a program to a BPF object file"),
    "map": ("map", "list, read and change BPF maps of any process"),
    "prog": ("prog", "list BPF programs, show their code and what they cost"),
    "trace-cmd": ("trace_cmd", "record and report with ftrace: trace-cmd's commands and files"),
    "doctor": ("doctor", "tell what this machine allows, and how to allow more"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status.

    Args:
        argv: arguments without the program's name; None: those of the process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if not words or words[0] in ("-h", "--help"):
            return _help(not words)
        if words[0] in ("-V", "--version"):
            from .. import __version__

            print(f"harken v{__version__}")
            return 0
        name = words[0]
        if name in COMMANDS:
            words.pop(0)
        else:
            name = "run"
        module = __import__(f"harken.cli.commands.{COMMANDS[name][0]}", fromlist=["run"])
        return int(module.run(words))
    except BrokenPipeError:
        return _reader_gone()
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("HARKEN_DEBUG"):
            raise
        return _report(error)


def script(argv: Sequence[str] | None = None) -> None:
    """The console script: exits without tearing the interpreter down piece by piece.  ``argv`` as for ``main``."""
    _standard_descriptors()
    gc.set_threshold(50_000, 20, 100)  # start-up makes thousands of objects that stay: looking through them again and again costs 3 ms
    try:
        from ..base.code_image import use
    except ImportError:  # not CPython
        image = None
    else:
        image = use()
    code = _interruptible(argv)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _reader_gone()
    except OSError as error:  # the disk is full, or standard output is closed
        if not code:
            _say(f"ERROR: cannot write to standard output: {error.strerror}")
            code = 1
    try:
        sys.stderr.flush()
    except OSError:  # nobody is left to be told
        pass
    if image is not None:
        image.extend()
    for name in ("harken.kernel.features", "harken.kernel.btf"):
        module = sys.modules.get(name)
        if module is not None:  # what is left to the end of the process
            module.keep()
    os._exit(code)


def _interruptible(argv: Sequence[str] | None) -> int:
    """Answers Ctrl-C while ``main`` runs; before and after, it ends the process as it ends any (the scripts in bin/ see to before)."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return main(argv)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = main(argv)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:
        code = 130
    return code


def _standard_descriptors() -> None:
    """Whoever closed one of the three must not have it taken by a BPF map, into which the output would then be written.

    What takes the place of standard input or output fails when it is used; lost messages are no error.
    """
    for fd, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number that is free: this one
            if fd == 0:
                sys.stdin = os.fdopen(0)
            elif fd == 1:
                sys.stdout = os.fdopen(1, "w")
            else:
                sys.stderr = os.fdopen(2, "w")


def _help(wrong: bool) -> int:
    from .options import USAGE

    width = max(len(name) for name in COMMANDS) + 4
    commands = "\n".join([f"    {name:<{width}}{text}" for name, (_module, text) in COMMANDS.items()])
    print(USAGE.format(commands=commands), end="", file=sys.stderr if wrong else sys.stdout)
    return 2 if wrong else 0


def _report(error: Exception) -> int:
    """An error as text on standard error; returns the exit status."""
    from ..base.errors import HarkenError

    if isinstance(error, HarkenError):
        from ..render.diagnostic import error_text

        _say(error_text(error, full="-v" in sys.argv[1:]))
        return error.exit_code
    if isinstance(error, OSError):
        _say(f"ERROR: {error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        return 1
    _say(
        f"ERROR: internal error: {type(error).__name__}: {error}\n"
        "HINT: this is a fault of harken; HARKEN_DEBUG=1 shows where it happened: please report it"
    )
    return 1


def _say(text: str) -> None:
    from ..render.values import clean

    try:
        print(clean(text), file=sys.stderr)
    except OSError:
        pass


def _reader_gone() -> int:
    """Whoever read our output has left (``harken ... | head``): end quietly, as SIGPIPE would."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    return 141
