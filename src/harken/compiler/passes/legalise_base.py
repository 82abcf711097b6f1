"""What turning domain operations into a kernel's builds on: constants, loss counters, adding instructions, reading memory."""

from __future__ import annotations

from ...base.diagnostics import error
from ...base.errors import SourceError
from ..ir import I1, I32, I64, NONE, PTR, Block, Const, Function, Inst, IRError, Program, Value
from ..target import Target
from ..unit import LOSS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...base.diagnostics import Span

__all__ = ("DIRECT", "Pool", "RECORD", "RODATA", "Rules", "alignment")

RODATA = "harken_rodata"
#: the name of allocas that must stand in scratch memory
RECORD = "record"
#: spaces that programs read and write directly
DIRECT = frozenset(("stack", "ctx", "map_value", "map_key", "ring", "btf", "packet"))


class Pool:
    """What the programs of one module share: constants and loss counters."""

    __slots__ = ("data", "losses", "offsets")

    def __init__(self) -> None:
        self.data = bytearray()
        self.offsets: dict[bytes, int] = {}
        self.losses: dict[tuple[str, str], int] = {}

    def constant(self, data: bytes) -> int:
        """The offset of ``data`` among the constants."""
        at = self.offsets.get(data)
        if at is None:
            align = 8 if len(data) >= 8 else 4 if len(data) >= 4 else 1
            self.data += bytes(-len(self.data) % align)
            at = self.offsets[data] = len(self.data)
            self.data += data
        return at

    def loss(self, kind: str, subject: object) -> int:
        """The slot of a loss counter."""
        return self.losses.setdefault((kind, str(subject)), len(self.losses))


def alignment(pointer: Value, offset: int) -> int:
    """The largest power of two up to 8 that divides the address for sure."""
    while isinstance(pointer, Inst) and pointer.op == "gep":
        distance = pointer.args[1]
        if isinstance(distance, Const):
            offset += distance.signed
        else:
            scale = _scale(distance)
            if scale < 8:
                return min(scale, _power(offset))
        pointer = pointer.args[0]
    return _power(offset)


def _power(offset: int) -> int:
    return 8 if offset % 8 == 0 else 4 if offset % 4 == 0 else 2 if offset % 2 == 0 else 1


def _scale(value: Value) -> int:
    if isinstance(value, Inst) and value.op == "shl" and isinstance(value.args[1], Const):
        return 1 << min(3, value.args[1].value)
    if isinstance(value, Inst) and value.op == "mul" and isinstance(value.args[1], Const):
        return _power(value.args[1].value)
    if isinstance(value, Inst) and value.op == "and" and isinstance(value.args[1], Const):
        return _power(value.args[1].value)
    return 1


class Rules:
    """One run over one function.  ``out`` is the instruction list of the block being written, ``new`` maps replaced values."""

    def __init__(self, function: Function, program: Program, target: Target, pool: Pool) -> None:
        self.function, self.program, self.target, self.pool = function, program, target, pool
        self.block = self.source = function.blocks[0]
        self.out: list[Inst] = []
        self.new: dict[Value, Value] = {}
        self.allocas: list[Inst] = []
        self.span: Span | None = None
        self.blocks: list[Block] = []
        self.cold: list[Block] = []
        #: record -> event, as its emit says
        self.events: dict[Value, int] = {}
        #: records in memory of ours -> (ring, fixed size, tail)
        self.records: dict[Value, tuple[str, int, int]] = {}
        #: branch on a reserved record -> (index of the null successor, event)
        self.refusals: dict[Inst, tuple[int, object]] = {}

    # -- building
    def add(self, op: str, args: tuple[Value, ...] = (), type: Any = NONE, attr: Any = None, space: str = "") -> Inst:
        inst = Inst(op, args, type, attr, self.span, space)
        self.out.append(inst)
        return inst

    def helper(self, name: str, *args: Value, type: Any = I64) -> Inst:
        return self.add("helper", args, type, name)

    def alloca(self, size: int, name: str) -> Inst:
        inst = Inst("alloca", (), PTR, (size, 8, name), self.span, "stack")
        self.allocas.append(inst)
        return inst

    def at(self, pointer: Value, offset: int) -> Value:
        return self.add("gep", (pointer, Const(offset)), PTR, space=pointer.space) if offset else pointer

    def go(self, block: Block) -> None:
        self.block, self.out = block, block.insts

    def when(self, condition: Value, kind: str, subject: object) -> None:
        """Counts a loss if the condition holds, out of the way of the straight path."""
        cold, rest = Block(f"{self.block.name}.lost"), Block(f"{self.block.name}.on")
        self.add("condbr", (condition,), attr=(cold, rest))
        self.go(cold)
        self.cold.append(cold)
        self.loss(kind, subject, rest, self.cold)
        self.blocks.append(rest)
        self.go(rest)

    def loss(self, kind: str, subject: object, rest: Block, blocks: list[Block]) -> Block:
        """Adds one to a loss counter and goes on to ``rest``; returns the last block, whose only successor is ``rest``."""
        key = self.alloca(4, "slot")
        self.add("store", (key, Const(self.pool.loss(kind, subject), I32)), attr=0)
        table = self.add("map", (), PTR, LOSS, space="map")
        slot = self.helper("map_lookup_elem", table, key, type=PTR)
        slot.space, slot.nullable = "map_value", True
        count, done = Block(f"{self.block.name}.count"), Block(f"{self.block.name}.done")
        self.add("condbr", (self.add("icmp", (slot, Const(0)), I1, "eq"),), attr=(done, count))
        blocks += [count, done]
        self.go(count)
        self.add("atomic", (slot, Const(1)), attr=("add", 0, False))
        self.add("br", attr=done)
        self.go(done)
        self.add("br", attr=rest)
        return done

    # -- reading
    def read(self, to: Value, pointer: Value, size: int, offset: int, space: str, text: Value | None = None) -> Inst:
        if space not in ("kernel", "user", "any") and space not in DIRECT:
            raise IRError(f"{self.function.name}: read through a pointer to {space or 'nowhere'}")
        where = "user" if space == "user" else "kernel"
        suffix = "" if text is None else "_str"
        plain = space == "any" or not self.target.has("probe_read_space")
        name = f"probe_read{suffix}" if plain else f"probe_read_{where}{suffix}"
        return self.helper(name, to, text or Const(size), self.at(pointer, offset))

    def bounded(self, value: Value, limit: int) -> Value:
        """``value``, at most ``limit``."""
        if isinstance(value, Const):
            return Const(min(value.value, limit))
        over = self.add("icmp", (value, Const(limit)), I1, "ule")
        return self.add("select", (over, value, Const(limit)), I64)

    def writable(self, pointer: Value) -> None:
        """Refuses to write where programs cannot."""
        space = pointer.space
        if space in ("kernel", "user", "any"):
            hint = "bpf_probe_write_user() writes to a process's memory" if space != "kernel" else ""
            whose = {"kernel": "the kernel's memory", "user": "a process's memory"}.get(space, "memory that is not the program's own")
            raise SourceError((error(f"a probe cannot write to {whose}", self.span, hint),))
        if space not in DIRECT:
            raise IRError(f"{self.function.name}: store through a pointer to {space or 'nowhere'}")
