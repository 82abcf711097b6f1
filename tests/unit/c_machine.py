"""A made-up machine for C programs: compiles against a small catalogue, runs in the interpreter of BPF programs."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from language_machine import Catalogue  # noqa: E402

from harken.abi import bpf as abi  # noqa: E402
from harken.base.diagnostics import Source  # noqa: E402
from harken.compiler.context import Context  # noqa: E402
from harken.compiler.target import EVERYTHING, Target  # noqa: E402
from harken.formats.spec import Spec  # noqa: E402
from harken.languages.c.compile import compile, program  # noqa: E402
from harken.languages.c.unit import CUnit  # noqa: E402
from harken.testing.fake_kernel import FakeKernel  # noqa: E402
from harken.testing.interpreter import Interpreter  # noqa: E402

ALL = Target("x86_64", EVERYTHING)
#: a program that finds its arguments in an array of u64, as those that the tests run
PLAIN = Context(abi.BPF_PROG_TYPE_SYSCALL, "syscall")
KPROBE = Context(abi.BPF_PROG_TYPE_KPROBE, "pt_regs")


def compiled(text: str, name: str = "program.c") -> CUnit:
    catalogue = Catalogue()
    catalogue.kernel = FakeKernel(files={"/sys/devices/system/cpu/possible": "0", "/proc/modules": ""})
    catalogue.modules, catalogue.module_btf = list, lambda name: None  # type: ignore[attr-defined]
    return compile(Source(name, text), catalogue)  # type: ignore[arg-type]


def spec(text: str, function: str = "f", context: Context = PLAIN, target: Target = ALL) -> Spec:
    return program(compiled(text), function, context, target)


def run(text: str, *args: int, function: str = "f") -> int:
    """The signed result of ``long long f(unsigned long long *ctx, ...)``."""
    machine = Interpreter(spec(text, function))
    return signed(machine.run(function, struct.pack(f"<{len(args)}Q", *(arg & (1 << 64) - 1 for arg in args))))


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
