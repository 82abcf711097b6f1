"""Values and the code that handles them: what every built-in's ``lower`` and every front end build with.

A ``Val`` is a typed value on its way through lowering.  Integers travel as I64, extended by the sign of their type; pointers as I64
or PTR; strings and aggregates as a pointer to where they are, or as something that can be written into a destination when it is known
(``comm``, literals, tuples): nothing is copied to the stack only to be copied on.

``Code`` wraps a ``Builder`` with the idioms of tracing programs: conversions, copies of strings, structured branches.
``comparison`` and ``events`` build on it.
"""

from __future__ import annotations

from ...base.record import Record
from ..ir import I1, I64, Builder, Const, Function, Inst, Module, Value, int_type
from . import types as T

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .events import Events

    Fill = Callable[[Value, int], None]

__all__ = ("Val", "Code", "Environment", "READABLE")

#: Spaces that programs read directly.
READABLE = ("stack", "map_value", "map_key", "ring")


class Val:
    """A typed value.

    One of these says where it is: ``ir`` (scalars: the value; otherwise a pointer to it), ``literal`` (a string's
    bytes) or ``fill`` (writes the value at (pointer, offset)).  ``limit`` bounds a string that is read through ``ir``.
    ``padded`` tells that a string's bytes after the NUL are zero.  ``append`` is for values of changing length, besides ``fill``: it writes
    one at a pointer and returns its length in bytes, bounded by the type's size.
    """

    __slots__ = ("append", "fill", "ir", "limit", "literal", "padded", "type")

    def __init__(
        self,
        type: T.Type,
        ir: Value | None = None,
        literal: bytes | None = None,
        fill: Fill | None = None,
        limit: Value | None = None,
        padded: bool = False,
        append: Callable[[Value], Value] | None = None,
    ) -> None:
        self.type, self.ir, self.literal, self.fill, self.limit, self.padded = type, ir, literal, fill, limit, padded
        self.append = append


class Environment(Record):
    """What a program is compiled for: options and machine facts that lowering needs."""

    max_strlen: int
    cpus: int
    boot_offset: int = 0


class Code:
    """Builds one function."""

    def __init__(self, module: Module, function: Function, events: Events, environment: Environment) -> None:
        self.module = module
        self.function = function
        self.b = Builder(function, function.blocks[0])
        self.events = events
        self.environment = environment
        self._kept: dict[object, Value] = {}

    # -- scalars
    def number(self, value: int, kind: T.Type = T.INT64) -> Val:
        return Val(kind, Const(value))

    def i64(self, value: Val) -> Value:
        """A scalar as I64."""
        ir = value.ir
        assert ir is not None, f"{value.type} is not a scalar"
        if ir.type.pointer:
            return self.b.to_int(ir)
        return ir if ir.type == I64 else self.b.resize(ir, I64, False)

    def truth(self, value: Val) -> Value:
        """A scalar as I1."""
        ir = value.ir
        assert ir is not None
        if ir.type == I1:
            return ir
        if isinstance(ir, Const):
            return Const(int(ir.value != 0), I1)
        return self.b.icmp("ne", self.i64(value), Const(0))

    def pointer(self, value: Val, space: str) -> Value:
        """A scalar as a pointer into ``space``."""
        ir = value.ir
        assert ir is not None
        return ir if ir.type.pointer else self.b.to_pointer(self.i64(value), space or "kernel")

    def convert(self, value: Val, kind: T.Type) -> Value:
        """A scalar as I64 cut to the width of ``kind`` and extended by its sign."""
        if kind.kind == "bool":
            return self.b.resize(self.truth(value), I64, False)
        ir = self.i64(value)
        source = value.type
        if kind.size >= 8 or (T.is_integer(source) and source.size <= kind.size and (source.signed == kind.signed or not source.signed)):
            if not (T.is_integer(source) and source.size == kind.size and source.signed != kind.signed):
                return ir
            if kind.size == 8:
                return ir
        narrow = int_type(kind.size)
        if isinstance(ir, Const):
            return self.b.resize(Const(ir.value, narrow), I64, kind.signed)
        return self.b.resize(self.b.resize(ir, narrow, False), I64, kind.signed)

    def load(self, pointer: Value, kind: T.Type, offset: int = 0) -> Val:
        """A stored value; scalars are loaded, others stay where they are."""
        if T.is_scalar(kind):
            raw = self.b.load(pointer, int_type(kind.size), offset)
            return Val(kind, self.b.resize(raw, I64, kind.signed))
        return Val(kind, self.at(pointer, offset))

    def at(self, pointer: Value, offset: int) -> Value:
        """``pointer + offset``."""
        if not offset:
            return pointer
        return self.b.gep(pointer, Const(offset))

    # -- memory
    def store(self, value: Val, kind: T.Type, to: Value, offset: int = 0, pad: bool = False) -> None:
        """Writes ``value`` as a ``kind`` at ``to + offset``; ``pad`` zeroes the rest of strings (keys must be canonical)."""
        b = self.b
        if T.is_scalar(kind):
            ir = self.i64(value)
            b.store(to, b.resize(ir, int_type(kind.size), False), offset)
        elif kind.kind == "string":
            self.store_string(value, kind.size, to, offset, pad)
        elif value.fill is not None:
            if T.same(value.type, kind):
                value.fill(to, offset)
            else:
                self._store_parts(self.spill(value), kind, to, offset, pad)
        elif kind.kind in ("tuple", "record") and (pad or not T.same(value.type, kind)):
            self._store_parts(value, kind, to, offset, pad)
        else:
            assert value.ir is not None
            size = min(kind.size, value.type.size)
            b.copy(to, value.ir, size, offset)
            if size < kind.size:
                b.zero(to, kind.size - size, offset + size)

    def _store_parts(self, value: Val, kind: T.Type, to: Value, offset: int, pad: bool) -> None:
        """A tuple in memory as a wider tuple, part by part."""
        assert value.ir is not None
        have, _ = T.layout(value.type.parts)
        want, _ = T.layout(kind.parts)
        self.zero_gaps(kind.parts, to, offset)
        for part, source, at, goal in zip(value.type.parts, have, want, kind.parts):
            self.store(self.load(value.ir, part, source), goal, to, offset + at, pad)

    def zero_gaps(self, parts: tuple[T.Type, ...], to: Value, offset: int) -> None:
        """Zeroes the padding between the parts of a tuple, so that equal keys are equal bytes."""
        offsets, size = T.layout(parts)
        position = 0
        for part, at in zip((*parts, T.NONE), (*offsets, size)):
            if at > position:
                self.b.zero(to, at - position, offset + position)
            position = at + part.size

    def spill(self, value: Val, pad: bool = False) -> Val:
        """The value in memory: on the stack, unless it already is in memory that programs read directly."""
        placed = value.fill is None and value.literal is None and value.limit is None and not T.is_scalar(value.type)
        canonical = not pad or value.padded or value.type.kind != "string"
        if placed and canonical and value.ir is not None and value.ir.space in READABLE:
            return value
        size = (max(1, value.type.size) + 7) // 8 * 8
        slot = self.b.alloca(size, "value")
        if size != value.type.size and value.type.kind == "string":
            self.store_string(value, size, slot, 0, True)
        else:
            self.store(value, value.type, slot, 0, pad)
        return Val(value.type, slot, padded=pad)

    # -- strings
    def store_string(self, value: Val, size: int, to: Value, offset: int, pad: bool) -> None:
        """A string, cut to ``size - 1`` bytes, at ``to + offset``."""
        b = self.b
        if value.literal is not None:
            text = value.literal[: size - 1]
            length = size if pad or size <= 16 else len(text) + 1
            self.store_bytes(text + bytes(length - len(text)), to, offset)
            return
        if value.fill is not None:
            if value.type.size <= size:
                value.fill(to, offset)
                if pad and size > value.type.size:
                    b.zero(to, size - value.type.size, offset + value.type.size)
                return
            value = self.spill(value)
        assert value.ir is not None
        if value.padded and value.type.size <= size:
            b.copy(to, value.ir, value.type.size, offset)
            if size > value.type.size:
                b.zero(to, size - value.type.size, offset + value.type.size)
            return
        if pad:
            b.zero(to, size, offset)
        self.read_str(self.at(to, offset), value.ir, size, value.limit)

    def read_str(self, to: Value, source: Value, size: int, limit: Value | None = None) -> Value:
        """Copies a string; returns its length with the NUL, or -errno.

        A source in the space "any" is user memory if the address says so: kernel addresses are those with the highest bit set
        (true of x86-64 and arm64).
        """
        b = self.b
        if source.space != "any":
            return b.read_str(to, source, size, limit)
        address = b.to_int(source)

        def read(space: str) -> Value:
            return b.read_str(to, b.to_pointer(address, space), size, limit)

        return self.choose(b.icmp("slt", address, Const(0)), lambda: read("kernel"), lambda: read("user"))

    def read_bytes(self, to: Value, source: Value, size: Value) -> None:
        """Copies ``size`` bytes, whose bound the verifier knows, from an address that may be the kernel's or the process's."""
        b = self.b

        def read(space: str) -> None:
            b.helper(f"probe_read_{space}", to, size, source)

        if source.space == "any":
            self.when(b.icmp("slt", b.to_int(source), Const(0)), lambda: read("kernel"), lambda: read("user"))
        else:
            read("user" if source.space == "user" else "kernel")

    def store_bytes(self, data: bytes, to: Value, offset: int) -> None:
        """Constant bytes: as immediates while that is short, else from .rodata."""
        b = self.b
        if not any(data):
            b.zero(to, len(data), offset)
            return
        if len(data) > 32:
            b.copy(to, b.bytes(data), len(data), offset)
            return
        position = 0
        while position < len(data):
            size = next(s for s in (8, 4, 2, 1) if len(data) - position >= s and not (offset + position) % s)
            chunk = Const(int.from_bytes(data[position : position + size], "little"), int_type(size))
            b.store(to, chunk, offset + position)
            position += size

    def slot(self, name: str, value: int) -> Inst:
        """A local integer with a first value."""
        where = self.b.alloca(8, name)
        self.b.store(where, Const(value))
        return where

    def kept(self, key: object, make: Callable[[], Value]) -> Value:
        """What was made before under this key in this function: memory that its uses share, one after another."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    # -- control flow
    def when(self, condition: Value, then: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
        """``if``: the builder stands behind it afterwards."""
        b = self.b
        if isinstance(condition, Const):
            if condition.value:
                then()
            elif otherwise is not None:
                otherwise()
            return
        yes, done = b.block("then"), b.block("done")
        no = b.block("else") if otherwise is not None else done
        b.condbr(condition, yes, no)
        b.goto(yes)
        then()
        if not b.ended:
            b.br(done)
        if otherwise is not None:
            b.goto(no)
            otherwise()
            if not b.ended:
                b.br(done)
        b.goto(done)

    def choose(self, condition: Value, then: Callable[[], Value], otherwise: Callable[[], Value]) -> Value:
        """A value of one of two branches; both give the same IR type."""
        if isinstance(condition, Const):
            return then() if condition.value else otherwise()
        b = self.b
        yes, no, done = b.block("yes"), b.block("no"), b.block("join")
        b.condbr(condition, yes, no)
        b.goto(yes)
        first, first_end = then(), b.at
        b.br(done)
        b.goto(no)
        second, second_end = otherwise(), b.at
        b.br(done)
        b.goto(done)
        return b.phi(first.type, ((first_end, first), (second_end, second)), space=first.space)

    # -- helpers
    def text_length(self, got: Value) -> Value:
        """The length without the NUL of what a string read returned, 0 if the read failed.

        The very value that is compared is the one that goes on: kernels before 6.13 forget what they know of ``got`` for ``got - 1``.
        """
        b = self.b
        return b.sub(b.select(b.icmp("sgt", got, Const(0)), got, Const(1)), Const(1))

    def helper(self, name: str, *args: Value | int) -> Value:
        return self.b.helper(name, *[Const(a) if isinstance(a, int) else a for a in args])

    def current_pid(self) -> Value:
        """The process id (what the kernel calls tgid)."""
        return self.b.binary("lshr", self.b.helper("get_current_pid_tgid"), Const(32))
