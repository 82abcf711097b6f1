"""The interpreter notices what the verifier exists to prevent."""

from __future__ import annotations

import pytest

from harken.formats import insn as asm
from harken.formats.spec import MapSpec, ProgramSpec, Reloc, Spec
from harken.testing.interpreter import Interpreter
from harken.testing.interpreter_memory import Fault


def run(*insns: asm.Insn, ctx: bytes = b"", maps: tuple[MapSpec, ...] = (), relocs: tuple[Reloc, ...] = ()) -> int:
    return Interpreter(Spec(maps, (ProgramSpec("p", 31, asm.encode(insns), relocs),)), limit=1000).run("p", ctx)


@pytest.mark.parametrize(
    ("insns", "message"),
    [
        ((asm.exit_(),), "r0 is read before"),
        ((asm.ldx(8, 0, 10, -8), asm.exit_()), "read before they are written"),
        ((asm.ldx(8, 0, 10, 0), asm.exit_()), "bytes at offset 512"),
        ((asm.ldx(8, 0, 1, 0), asm.exit_()), "ctx, which has 4"),
        ((asm.mov64(2, imm=0), asm.ldx(8, 0, 2), asm.exit_()), "nowhere"),
        ((asm.mov64(0, imm=0), asm.ja(-2)), "too long"),
        ((asm.ja(7),), "jump to slot"),
        ((asm.call("get_current_pid_tgid"), asm.mov64(0, 1), asm.exit_()), "r1 is read before"),
        ((asm.call("sk_release"), asm.exit_()), "no fake"),
    ],
)
def test_faults(insns: tuple[asm.Insn, ...], message: str) -> None:
    with pytest.raises(Fault, match=message):
        run(*insns, ctx=bytes(4))


def test_a_forgotten_record_is_a_fault() -> None:
    insns = (asm.ld_imm64(1, 0), asm.mov64(2, imm=8), asm.mov64(3, imm=0), asm.call("ringbuf_reserve"), asm.mov64(0, imm=0), asm.exit_())
    with pytest.raises(Fault, match="neither submitted"):
        run(*insns, maps=(MapSpec("r", 27, 0, 0, 4096),), relocs=(Reloc(0, "map", "r"),))


def test_calls_have_frames_of_their_own() -> None:
    insns = (
        asm.mov64(6, imm=5),
        asm.mov64(1, imm=20),
        asm.call_local(2),
        asm.alu64("add", 0, 6),
        asm.exit_(),
        asm.stx(8, 10, 1, -8),
        asm.ldx(8, 0, 10, -8),
        asm.alu64("mul", 0, imm=2),
        asm.mov64(6, imm=99),
        asm.exit_(),
    )
    assert run(*insns) == 45


def test_sign_extension_and_atomics() -> None:
    assert run(asm.st(1, 10, -1, -8), asm.ldsx(1, 0, 10, -8), asm.exit_()) == (1 << 64) - 1
    assert (
        run(
            asm.st(8, 10, 5, -8),
            asm.mov64(1, imm=3),
            asm.atomic("add", 8, 10, 1, -8, fetch=True),
            asm.ldx(8, 0, 10, -8),
            asm.alu64("mul", 0, 1),
            asm.exit_(),
        )
        == 40
    )
