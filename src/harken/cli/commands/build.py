"""``harken build PROGRAM -o FILE.bpf.o``: a program as a BPF object file, without running it.

C (BCC's dialect) and bpftrace's language; the ending of the file says which.  Every function of a C program that can be one becomes a
program in the section that its name or macro says (``TRACEPOINT_PROBE(sched, sched_switch)`` -> ``tracepoint/sched/sched_switch``); one
that says nothing is a kprobe program that its loader attaches.  The object fits the kernel that it is built on.
"""

from __future__ import annotations

import os
import sys

from ...base.diagnostics import Source
from ...base.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...formats.spec import Spec
    from ...kernel.kernel import Kernel

__all__ = ("NAME", "HELP", "run")

NAME = "build"
HELP = "compile a program to a BPF object file"

USAGE = """\
usage: harken build [options] PROGRAM

    PROGRAM             a file: C in BCC's dialect (.c) or bpftrace's language (.bt); "-": standard input

    -o FILE             the object file (default: PROGRAM's name with .bpf.o)
    -x LANGUAGE         c or bt, where the file's name does not say it
    -D NAME[=VALUE], -I FOLDER, -W...
                        for the C preprocessor and compiler
    -d STAGES           show stages: ast, ir, asm, spec, verifier (loads the programs once) or all
"""


def run(argv: Sequence[str]) -> int:
    """Runs the command with the arguments after its name; returns the exit status."""
    from ..options import _stages

    words = list(argv)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="", file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    files: list[str] = []
    flags: list[str] = []
    output = language = ""
    stages: tuple[str, ...] = ()
    while words:
        word = words.pop(0)
        if word in ("-o", "-x", "-d", "--debug", "-D", "-I"):
            if not words:
                raise UsageError(f"option {word} needs a value")
            value = words.pop(0)
            if word == "-o":
                output = value
            elif word == "-x":
                language = value
            elif word in ("-d", "--debug"):
                stages = _stages(value)
            else:
                flags.append(word + value)
        elif word[:2] in ("-D", "-I", "-W", "-U"):
            flags.append(word)
        elif word.startswith("-") and word != "-":
            raise UsageError(f"build: unknown option {word}", "harken build --help")
        else:
            files.append(word)
    if len(files) != 1:
        raise UsageError("build: one program at a time" if files else "build: no program given", "harken build --help")
    source = Source(*_read(files[0]))
    language = language or {".c": "c", ".bt": "bt"}.get(os.path.splitext(files[0])[1], "")
    if language not in ("c", "bt"):
        raise UsageError(f"build: in which language is {files[0]}?", "-x c, or -x bt")
    from ...kernel.kernel import live

    kernel = live()
    spec = _c(kernel, source, flags, stages) if language == "c" else _bt(kernel, source, stages)
    if "verifier" in stages:
        _verify(kernel, spec)
    from ...formats.bpf_object import write

    data = write(spec)
    output = output or os.path.splitext(files[0])[0] + ".bpf.o"
    try:
        with open(output, "wb") as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}") from None
    return 0


def _read(name: str) -> tuple[str, str]:
    try:
        if name == "-":
            return "stdin", sys.stdin.read()
        with open(name, encoding="utf-8", errors="surrogateescape") as file:
            return name, file.read()
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from None


def _bt(kernel: Kernel, source: Source, stages: tuple[str, ...]) -> Spec:
    from ...session.build import build
    from ..debug import observer, show_unit

    unit = build(source, kernel=kernel, observe=observer(stages))
    show_unit(unit, stages)
    return unit.spec


def _c(kernel: Kernel, source: Source, flags: list[str], stages: tuple[str, ...]) -> Spec:
    from ...languages.c.build import build
    from ...probes.catalogue import Catalogue
    from ...render.diagnostic import warning_text
    from ..debug import observer, show_spec

    def warn(position: str, text: str, hint: str) -> None:
        sys.stderr.write(warning_text(position, text, hint, (source.name, source.text)) + "\n")

    spec = build(source, Catalogue(kernel), tuple(flags), observer(stages), warn)
    show_spec(spec, stages)
    return spec


def _verify(kernel: Kernel, spec: Spec) -> None:
    """Loads everything once, for the verifier's log and the state of the JIT."""
    from ...kernel.loader import load
    from ..debug import show_logs

    with load(kernel, spec, log_level=1) as loaded:
        show_logs(loaded.logs)
        for name, program in loaded.programs.items():
            info = program.info()
            jit = f"{info.jited_size} bytes of machine code" if info.jited_size else "interpreted: not compiled to machine code"
            print(f"{name}: {info.xlated_size // 8} instructions after the verifier, {jit}")
