"""Our disassembly against bpftool's, on a program that the kernel holds."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from harken.compiler.assemble import assemble
from harken.compiler.target import EVERYTHING, Target
from harken.formats.insn import LD_IMM64, PSEUDO_MAP_FD, disassemble
from harken.kernel.kernel import live
from harken.kernel.loader import load
from harken.testing.interpreter_random import generate

if TYPE_CHECKING:
    from harken.formats.insn import Insn

pytestmark = [pytest.mark.oracle, pytest.mark.kernel, pytest.mark.program("bpftool")]


@pytest.mark.parametrize("seed", [1, 4, 11])
def test_the_text_is_bpftools(seed: int) -> None:
    module = generate(seed, loops=False)
    # old bpftools do not know the newest instructions
    spec = assemble(module, Target("x86_64", EVERYTHING - {"cpu_v4", "btf_func"})).spec
    with load(live(), spec) as loaded:
        program = loaded.programs["main"]
        shown = subprocess.run(
            ["bpftool", "prog", "dump", "xlated", "id", str(program.id), "opcodes"], capture_output=True, text=True, check=True
        )
    raw: list[bytes] = []
    texts: list[str] = []
    lines = iter(shown.stdout.splitlines())
    for line in lines:
        match = re.match(r"\s*\d+: (\([0-9a-f]{2}\) .*)", line)
        if match:
            texts.append(match[1])
            raw.append(bytes.fromhex(next(lines)))

    def symbol(slot: int, insn: Insn) -> str:
        text = names[slot]
        if insn[0] == LD_IMM64 and insn[2] == PSEUDO_MAP_FD:
            return text.split(" = ", 1)[1]
        # the kernel has replaced helpers' numbers by addresses
        return text.split("call ", 1)[1] if "call " in text else ""

    names: dict[int, str] = {}
    slot = 0
    for text, data in zip(texts, raw):
        names[slot] = text
        slot += len(data) // 8
    ours = [line.split(": ", 1)[1] for line in disassemble(b"".join(raw), symbol)]
    assert len(ours) > 50 and ours == texts
