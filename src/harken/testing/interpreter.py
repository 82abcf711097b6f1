"""An interpreter of BPF programs: runs a Spec without a kernel, with faked helpers and checked memory.

It exists so that compilers are tested by results.  Reading a register or a stack byte that was never written, touching memory out of
bounds, leaving a ring-buffer record neither submitted nor discarded, or running too long raises ``Fault``.

``interpreter_memory`` explains what pointers are, ``interpreter_helpers`` holds the fakes.

Example:
    >>> from harken.formats.insn import alu64, encode, exit_, ldx
    >>> from harken.formats.spec import ProgramSpec, Spec
    >>> code = encode([ldx(8, 0, 1), alu64("add", 0, imm=1), exit_()])
    >>> Interpreter(Spec(programs=(ProgramSpec("p", 5, code),))).run("p", (41).to_bytes(8, "little"))
    42
"""

from __future__ import annotations

from ..abi.bpf_helpers import name_of
from ..formats.insn import LD_IMM64, decode
from ..formats.spec import ProgramSpec, Spec
from .interpreter_helpers import HELPERS
from .interpreter_memory import FakeMap, Fault, Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .interpreter_helpers import Helper

__all__ = ("Interpreter",)

_M64, _M32 = (1 << 64) - 1, (1 << 32) - 1
_SIZES = {0x10: 1, 0x08: 2, 0x00: 4, 0x18: 8}


class Interpreter(Memory):
    """A machine with the maps and programs of a Spec.

    Attributes:
        maps: name -> FakeMap.
        helpers: helper name -> function(interpreter, r1 .. r5) -> int; replace entries to fake more.
        steps: instructions executed by the last run.
    """

    def __init__(self, spec: Spec, limit: int = 1_000_000) -> None:
        super().__init__()
        self.spec, self.limit = spec, limit
        self.time = 1_000_000
        self.pid_tgid = 4242 << 32 | 4243
        self.uid_gid = 1000 << 32 | 1000
        self.comm = b"interpreter"
        self.cpu = 0
        self.helpers: dict[str, Helper] = dict(HELPERS)
        self.maps = {m.name: FakeMap(m, self.region(f"map {m.name}", bytearray()), self) for m in spec.maps}
        self._by_number = {m.number: m for m in self.maps.values()}
        self.reserved: dict[int, tuple[FakeMap, int]] = {}
        self.steps = 0
        self._program: ProgramSpec = ProgramSpec("", 0, b"")
        self._code: list[tuple[int, int, int, int, int] | None] = []

    def map_at(self, handle: int) -> FakeMap:
        found = self._by_number.get(handle >> 32)
        if found is None:
            raise Fault(f"{handle:#x} is not a map")
        return found

    # -- running
    def run(self, name: str, ctx: bytes = b"") -> int:
        """Runs a program; returns its result as an unsigned number of 64 bits.

        Raises:
            Fault: the program misbehaved.
        """
        self._program = next(p for p in self.spec.programs if p.name == name)
        code = list(decode(self._program.insns))
        for reloc in self._program.relocs:
            insn = code[reloc.insn]
            assert insn is not None
            op, dst, _, off, imm = insn
            if reloc.kind == "map":
                code[reloc.insn] = (op, dst, 0, off, self.maps[reloc.symbol].number << 32)
            elif reloc.kind == "map_value":
                value = self.maps[reloc.symbol].values[bytes(4)]
                code[reloc.insn] = (op, dst, 0, off, (value << 32) + reloc.addend)
            else:
                raise Fault(f"no fake for {reloc.kind} {reloc.symbol}")
        self._code = code
        self.steps = 0
        context = self.region("ctx", bytearray(ctx))
        result = self.call(0, (context << 32,))
        if self.reserved:
            raise Fault("a ring-buffer record was neither submitted nor discarded")
        return result

    def call(self, pc: int, args: tuple[int, ...], depth: int = 0) -> int:
        """Runs from slot ``pc`` in a frame of its own until ``exit``."""
        if depth > 8:
            raise Fault("calls are nested too deep")
        stack = self.region("stack", bytearray(512), bytearray(512))
        registers: list[int | None] = [None] * 11
        registers[1 : 1 + len(args)] = args
        registers[10] = (stack << 32) + 512
        result = self._frame(pc, registers, depth)
        del self.regions[stack]
        return result

    def _frame(self, pc: int, registers: list[int | None], depth: int) -> int:
        code = self._code

        def get(r: int) -> int:
            value = registers[r]
            if value is None:
                raise Fault(f"slot {pc}: r{r} is read before it is written")
            return value

        while True:
            self.steps += 1
            if self.steps > self.limit:
                raise Fault("the program runs too long")
            if not 0 <= pc < len(code):
                raise Fault(f"jump to slot {pc}")
            insn = code[pc]
            if insn is None:
                raise Fault(f"jump into the middle of ld_imm64 at slot {pc}")
            op, dst, src, off, imm = insn
            kind = op & 7
            if kind in (7, 4):
                registers[dst] = _alu(op, dst, off, imm, get, get(src) if op & 8 and op & 0xF0 != 0xD0 else imm & _M64)
            elif kind == 1:
                size = _SIZES[op & 0x18]
                value = int.from_bytes(self.read(get(src) + off, size), "little", signed=op & 0xE0 == 0x80)
                registers[dst] = value & _M64
            elif kind == 2:
                size = _SIZES[op & 0x18]
                self.write(get(dst) + off, (imm & ((1 << 8 * size) - 1)).to_bytes(size, "little"))
            elif kind == 3:
                size = _SIZES[op & 0x18]
                if op & 0xE0 == 0xC0:
                    self._atomic(get(dst) + off, size, src, imm, registers, get)
                else:
                    self.write(get(dst) + off, (get(src) & ((1 << 8 * size) - 1)).to_bytes(size, "little"))
            elif op == LD_IMM64:
                registers[dst] = pc + 1 + imm - (1 << 32 if imm >> 31 & 1 else 0) if src == 4 else imm & _M64
                pc += 1
            elif op == 0x85:
                if src == 1:
                    values = tuple(r for r in registers[1:6])
                    registers[0] = self.call(pc + 1 + imm, values, depth + 1)  # type: ignore[arg-type]
                elif src == 0:
                    registers[0] = self._helper(imm, registers, depth)
                else:
                    raise Fault("no fakes for kernel functions")
                registers[1:6] = [None] * 5
            elif op == 0x95:
                return get(0)
            elif op == 0x05:
                pc += off
            elif op == 0x06:
                pc += imm
            elif _holds(op, get(dst), get(src) if op & 8 else imm & _M64):
                pc += off
            pc += 1

    def _atomic(self, address: int, size: int, src: int, imm: int, registers: list[int | None], get: Callable[[int], int]) -> None:
        if address % size:
            raise Fault("an atomic access is not aligned")
        mask = (1 << 8 * size) - 1
        old, value = int.from_bytes(self.read(address, size), "little"), get(src) & mask
        if imm == 0xF1:
            if old == get(0) & mask:
                self.write(address, value.to_bytes(size, "little"))
            registers[0] = old
            return
        new = {0x00: old + value, 0x40: old | value, 0x50: old & value, 0xA0: old ^ value, 0xE0: value}[imm & 0xF0] & mask
        self.write(address, new.to_bytes(size, "little"))
        if imm & 1:
            registers[src] = old

    def _helper(self, number: int, registers: list[int | None], depth: int) -> int:
        name = name_of(number)
        function = self.helpers.get(name)
        if function is None:
            raise Fault(f"no fake for helper {name}")
        if name in ("loop", "for_each_map_elem"):
            return function(self, registers, depth)
        count = function.__code__.co_argcount - 1
        args = registers[1 : 1 + count]
        if None in args:
            raise Fault(f"{name}: r{args.index(None) + 1} was not set")
        return function(self, *args) & _M64


def _alu(op: int, dst: int, off: int, imm: int, get: Callable[[int], int], b: int) -> int:
    wide = op & 7 == 7
    mask, bits = (_M64, 64) if wide else (_M32, 32)
    kind = op & 0xF0
    if kind == 0xD0:
        raw = get(dst) & ((1 << imm) - 1)
        swap = wide or op & 8
        return int.from_bytes(raw.to_bytes(imm // 8, "little"), "big") if swap else raw
    b &= mask
    if kind == 0xB0:
        if off:
            low = b & ((1 << off) - 1)
            return (low - (1 << off) if low >> (off - 1) else low) & mask
        return b
    a = get(dst) & mask
    if kind == 0x80:
        return -a & mask
    if kind in (0x30, 0x90) and off == 1:
        x, y = _signed(a, bits), _signed(b, bits)
        if not y:
            return a if kind == 0x90 else 0
        if kind == 0x30:
            quotient = abs(x) // abs(y)
            return (-quotient if (x < 0) != (y < 0) else quotient) & mask
        rest = abs(x) % abs(y)
        return (-rest if x < 0 else rest) & mask
    if kind == 0x00:
        return (a + b) & mask
    if kind == 0x10:
        return (a - b) & mask
    if kind == 0x20:
        return a * b & mask
    if kind == 0x30:
        return a // b if b else 0
    if kind == 0x40:
        return a | b
    if kind == 0x50:
        return a & b
    if kind == 0x60:
        return a << (b & (bits - 1)) & mask
    if kind == 0x70:
        return a >> (b & (bits - 1))
    if kind == 0x90:
        return a % b if b else a
    if kind == 0xA0:
        return a ^ b
    if kind == 0xC0:
        return _signed(a, bits) >> (b & (bits - 1)) & mask
    raise Fault(f"unknown opcode {op:#x}")


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def _holds(op: int, a: int, b: int) -> bool:
    bits = 64 if op & 7 == 5 else 32
    mask = (1 << bits) - 1
    a, b = a & mask, b & mask
    kind = op & 0xF0
    if kind in (0x60, 0x70, 0xC0, 0xD0):
        a, b = _signed(a, bits), _signed(b, bits)
    if kind == 0x10:
        return a == b
    if kind == 0x50:
        return a != b
    if kind == 0x40:
        return a & b != 0
    if kind in (0x20, 0x60):
        return a > b
    if kind in (0x30, 0x70):
        return a >= b
    if kind in (0xA0, 0xC0):
        return a < b
    if kind in (0xB0, 0xD0):
        return a <= b
    raise Fault(f"unknown jump {op:#x}")
