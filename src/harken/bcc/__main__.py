"""``python -m harken.bcc SCRIPT ARGS...``: runs a script that was written for BCC, unchanged.

Inside, ``bcc`` and its submodules are harken's.  The script sees its own ``sys.argv``, ``__file__`` and ``__main__``, as if Python had
started it.  Messages of programs that do not compile or load are shown with the line of C, not with a traceback.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType, TracebackType
    from typing import Any

__all__ = ("alias", "main", "run")

_USAGE = """usage: python -m harken.bcc SCRIPT [ARG...]

Runs a Python script that uses BCC ("from bcc import BPF") on harken instead of BCC:
no LLVM, no kernel headers.  ARGs are the script's own.
"""


class _Alias:
    """Finds ``bcc.X`` where ``harken.bcc.X`` is."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> Any:
        if name != "bcc" and not name.startswith("bcc."):
            return None
        try:
            __import__(f"harken.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"harken.{name}":
                raise
            return None
        spec: Any = type(sys.__spec__)
        return spec(name, _Alias, is_package=name == "bcc")

    @staticmethod
    def create_module(spec: Any) -> ModuleType:
        module = sys.modules[f"harken.{spec.name}"]
        _specs[spec.name] = module.__spec__
        return module

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        # the import system has put the alias's own description there
        for name, spec in _specs.items():
            if spec is not None and sys.modules.get(f"harken.{name}") is module:
                module.__spec__ = spec


_specs: dict[str, Any] = {}


def alias() -> None:
    """Makes ``import bcc`` mean ``harken.bcc``, for this process."""
    if _Alias not in sys.meta_path:
        sys.meta_path.insert(0, _Alias)


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Shows an uncaught exception: the script's frames only, and harken's own errors as text."""
    from ..base.errors import HarkenError
    from .errors import BPFError

    if not os.environ.get("HARKEN_DEBUG"):
        if isinstance(error, BPFError):
            sys.stderr.write(f"ERROR: {error}\n")
            return
        if isinstance(error, HarkenError):
            from ..render.diagnostic import error_text

            sys.stderr.write(error_text(error) + "\n")
            return
        trace, inside = _own_frames(trace)
        error.__traceback__ = trace
        sys.__excepthook__(kind, error, trace)
        if inside and isinstance(error, (TypeError, AttributeError, AssertionError, NameError, RuntimeError)):
            sys.stderr.write("NOTE: HARKEN_DEBUG=1 shows where in harken this comes from\n")
        return
    sys.__excepthook__(kind, error, trace)


def _own_frames(trace: TracebackType | None) -> tuple[TracebackType | None, bool]:
    """The frames of the script and of what it imports, without harken's own; whether the last one was harken's."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
    first: TracebackType | None = None
    last: TracebackType | None = None
    inside = False
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        inside = file.startswith(package)
        onward = trace.tb_next
        if not inside and file != "<frozen runpy>":
            trace.tb_next = None
            if last is None:
                first = trace
            else:
                last.tb_next = trace
            last = trace
        trace = onward
    return first, inside


def run(words: Sequence[str]) -> None:
    """Runs a script with arguments; what it raises passes through.

    Args:
        words: the script's path, then its arguments.
    """
    script = words[0]
    with open(script, "rb") as file:
        source = file.read()
    if source[:2] == b"#!" and b"python" not in source.partition(b"\n")[0]:
        words = _wrapped(script, source, words[1:])
        script = words[0]
        with open(script, "rb") as file:
            source = file.read()
    alias()
    sys.argv = list(words)
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    sys.excepthook = _hook
    module = type(sys)("__main__")
    module.__dict__.update({"__file__": script, "__builtins__": __builtins__, "__cached__": None})
    sys.modules["__main__"] = module
    exec(compile(source, script, "exec", dont_inherit=True), module.__dict__)


def _wrapped(script: str, source: bytes, arguments: Sequence[str]) -> list[str]:
    """The Python script behind one of BCC's shell scripts of two lines (``lib=$(dirname $0)/lib``, ``$lib/ugc.py -l java "$@"``), with
    its arguments.  Distributions rename the tools, so it is looked for under their names, too.

    Raises:
        SystemExit: it is something else.
    """
    lines = source.decode("utf-8", "replace").split("\n")
    folder = os.path.dirname(os.path.abspath(script))
    for line in lines:
        command, quoted, _ = line.strip().partition(' "$@"')
        if quoted and command.startswith("$lib/"):
            tool, *options = command[len("$lib/") :].split()
            name = tool.removesuffix(".py")
            for found in (f"lib/{tool}", tool, f"lib/{name}.py", f"{name}.py", f"{name}-bpfcc", f"lib/{name}-bpfcc"):
                if os.path.isfile(f"{folder}/{found}"):
                    return [f"{folder}/{found}", *options, *arguments]
    sys.stderr.write(f"ERROR: {script} is not a Python script: it begins with {lines[0]}\n")
    raise SystemExit(2)


def main() -> None:
    """The command line."""
    words = sys.argv[1:]
    if words[:1] == ["--"]:
        words = words[1:]
    if not words or words[0] in ("-h", "--help"):
        (sys.stdout if words else sys.stderr).write(_USAGE)
        raise SystemExit(0 if words else 2)
    if not os.path.isfile(words[0]):
        sys.stderr.write(f"ERROR: there is no script {words[0]}\n")
        raise SystemExit(2)
    _use_image()
    run(words)


def _use_image() -> None:
    """Takes harken's modules from the code image, and keeps there at the end what it did not have."""
    try:
        from ..base.code_image import use
    except ImportError:  # not CPython
        return
    import atexit

    atexit.register(use().extend)


if __name__ == "__main__":
    main()
