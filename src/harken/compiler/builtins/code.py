"""Values and the code that handles them: what every built-in's ``lower`` and every front end build with.

A ``Val`` is a typed value on its way through lowering.  Integers travel as I64, extended by the sign of their type; pointers as I64
or PTR; strings and aggregates as a pointer to where they are, or as something that can be written into a destination when it is known
(``comm``, literals, tuples): nothing is copied to the stack only to be copied on.

``Code`` wraps a ``Builder`` with the idioms of tracing programs: null checks, string copies, structured branches, event records.
"""

from __future__ import annotations

from ...base.record import Record
from ..ir import I1, I32, I64, PTR, Builder, Const, Function, Inst, Module, Value, int_type
from ..unit import GATE, RING, Event
from . import types as T

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...base.diagnostics import Span
    from ...base.schema import Field

    Fill = Callable[[Value, int], None]

__all__ = ("Val", "Code", "Events", "Environment", "FIXED_STRING")

#: Strings up to this capacity lie in the fixed part of an event; longer ones go to its tail with their real length.
FIXED_STRING = 64
_KERNEL_READABLE = ("stack", "map_value", "map_key", "ring")


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


class Events:
    """The events of one compilation, numbered in the order in which they are first met."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._ids: dict[Event, int] = {}

    def number(self, event: Event) -> int:
        known = self._ids.get(event)
        if known is None:
            known = self._ids[event] = len(self.events)
            self.events.append(event)
        return known


class Code:
    """Builds one function."""

    def __init__(self, module: Module, function: Function, events: Events, environment: Environment) -> None:
        self.module = module
        self.function = function
        self.b = Builder(function, function.blocks[0])
        self.events = events
        self.environment = environment

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
        if placed and canonical and value.ir is not None and value.ir.space in _KERNEL_READABLE:
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

    def string_equals(self, left: Val, right: Val, count: int | None = None) -> Value:
        """I1: whether two strings are equal, over the first ``count`` bytes if given."""
        if left.literal is not None and right.literal is not None:
            a, z = left.literal, right.literal
            return Const(int(a[:count] == z[:count]), I1)
        if left.literal is not None:
            left, right = right, left
        if right.literal is not None:
            return self._equals_literal(left, right.literal, count)
        size = max(left.type.size, right.type.size) if count is None else count
        size = (size + 7) // 8 * 8
        sides = []
        for side in (left, right):
            slot = self.b.alloca(size + 8, "compared")
            if count is not None and count < side.type.size:
                self.store_string(side, count + 1, slot, 0, False)
                source, slot = slot, self.b.alloca(size + 8, "compared")
                self.b.zero(slot, size + 8)
                self.b.read_str(slot, source, count + 1)
            else:
                self.store_string(side, min(side.type.size, size), slot, 0, True)
                if side.type.size < size:
                    self.b.zero(slot, size - side.type.size, side.type.size)
            sides.append(slot)
        return self.words_equal(sides[0], sides[1], size)

    def _equals_literal(self, value: Val, text: bytes, count: int | None) -> Value:
        """The string's words against constants; only as many bytes as decide it are read."""
        b = self.b
        if count is not None and count <= len(text):
            wanted, exact = text[:count], False
        else:
            wanted, exact = text + b"\0", True
        if exact and len(wanted) > value.type.size:
            return Const(0, I1)
        if not wanted:
            return Const(1, I1)
        need = len(wanted)
        words = (need + 7) // 8
        where: Value
        if (
            value.ir is not None
            and value.fill is None
            and value.limit is None
            and value.ir.space in _KERNEL_READABLE
            and value.type.size >= words * 8
        ):
            where = value.ir
        else:
            size = max(words * 8, value.type.size if value.fill is not None else 0)
            where = b.alloca((size + 8) // 8 * 8, "compared")
            if value.fill is not None:
                value.fill(where, 0)
            else:
                b.zero(where, words * 8)
                assert value.ir is not None
                self.read_str(where, value.ir, min(need + 1, words * 8 + 8), value.limit)
        difference: Value | None = None
        for word in range(words):
            chunk = wanted[word * 8 : word * 8 + 8]
            got: Value = b.load(where, I64, word * 8)
            if len(chunk) < 8:
                got = b.binary("and", got, Const((1 << (len(chunk) * 8)) - 1))
            got = b.binary("xor", got, Const(int.from_bytes(chunk, "little")))
            difference = got if difference is None else b.binary("or", difference, got)
        assert difference is not None
        return b.icmp("eq", difference, Const(0))

    def words_equal(self, left: Value, right: Value, size: int) -> Value:
        """I1: equal memory; ``size`` bytes, a multiple of 8 unless short."""
        b = self.b
        if size <= 64:
            difference: Value = Const(0)
            position = 0
            while position < size:
                step = next(s for s in (8, 4, 2, 1) if size - position >= s)
                kind = int_type(step)
                a, z = b.load(left, kind, position), b.load(right, kind, position)
                delta = b.resize(b.binary("xor", a, z), I64, False)
                difference = delta if position == 0 else b.binary("or", difference, delta)
                position += step
            return b.icmp("eq", difference, Const(0))
        step = 8 if not size % 8 else 1
        answer = self.slot("equal", 1)
        index = self.slot("index", 0)
        head, body, differ, onward, done = (b.block(name) for name in ("compare", "word", "differ", "next", "compared"))
        b.br(head)
        b.goto(head)
        i = b.load(index)
        b.condbr(b.icmp("ult", i, Const(size)), body, done)
        b.goto(body)
        kind = int_type(step)
        same = b.icmp("eq", b.load(b.gep(left, i), kind), b.load(b.gep(right, i), kind))
        b.condbr(same, onward, differ)
        b.goto(differ)
        b.store(answer, Const(0))
        b.br(done)
        b.goto(onward)
        b.store(index, b.add(i, Const(step)))
        b.br(head)
        b.goto(done)
        return b.icmp("ne", b.load(answer), Const(0))

    def slot(self, name: str, value: int) -> Inst:
        """A local integer with a first value."""
        where = self.b.alloca(8, name)
        self.b.store(where, Const(value))
        return where

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

    # -- events
    def emit(self, action: str, args: tuple[Any, ...], fields: list[tuple[str, Val]], position: str = "") -> None:
        """Sends one record: a u64 event number, then the fields, strings that may be long in the tail.

        ``emit`` stores the number, and a refusal is counted as ``("ring", event)`` by what the back end makes of it.
        """
        from ...base.schema import Field, Schema

        b = self.b
        layout: list[tuple[Val, Field, bool]] = []
        offset, tail = 8, 0
        for name, value in fields:
            kind = value.type
            dynamic = kind.kind == "string" and kind.size > FIXED_STRING and value.literal is None
            dynamic = dynamic or (kind.kind == "buf" and value.limit is not None) or value.append is not None
            align = 4 if dynamic else T.align_of(kind)
            offset = (offset + align - 1) // align * align
            if dynamic:
                one = Field(name, offset, "v") if kind.kind == "string" else Field(name, offset, "w", role=kind.kind, detail=kind.detail)
                tail += kind.size
                offset += 4
            else:
                one = T.field(name, kind, offset)
                offset += max(one.size, kind.size)
            layout.append((value, one, dynamic))
        size = (offset + 7) // 8 * 8
        event = self.events.number(Event(action, args, Schema(action, size, tuple(one for _, one, _ in layout)), position))
        record = b.record(RING, size, tail)
        room, full, done = b.block("room"), b.block("full"), b.block("sent")
        b.not_null(record, room, full)
        b.goto(full)
        b.br(done)
        b.goto(room)
        if action == "exit" and GATE in self.module.maps:
            b.store(b.insert("data", (), PTR, (GATE, 0), space="map_value"), Const(1))
        end = 8
        used: Value = Const(0)
        for value, one, dynamic in layout:
            if one.offset > end:
                b.zero(record, one.offset - end, end)
            if dynamic:
                used = self._append(value, record, one.offset, size, used)
                end = one.offset + 4
            else:
                self.store(value, value.type, record, one.offset)
                end = one.offset + max(one.size, value.type.size)
        if size > end:
            b.zero(record, size - end, end)
        if tail:
            b.emit(record, event, used)
        else:
            b.emit(record, event)
        b.br(done)
        b.goto(done)

    def _append(self, value: Val, record: Value, offset: int, size: int, used: Value) -> Value:
        """A value of changing length behind the fixed part and the ``used`` bytes of the tail; returns what is used then."""
        b = self.b
        start = b.add(used, Const(size))
        if value.append is not None:
            length = value.append(b.gep(record, start))
            word = b.binary("or", b.binary("shl", length, Const(16)), start)
            b.store(record, b.resize(word, I32, False), offset)
            return b.add(used, length)
        if value.type.kind == "buf":
            assert value.ir is not None and value.limit is not None
            self.read_bytes(b.gep(record, start), value.ir, value.limit)
            word = b.binary("or", b.binary("shl", value.limit, Const(16)), start)
            b.store(record, b.resize(word, I32, False), offset)
            return b.add(used, value.limit)
        if value.fill is not None:
            value = self.spill(value)
        assert value.ir is not None
        got = self.read_str(b.gep(record, start), value.ir, value.type.size, value.limit)
        length = self.text_length(got)
        word = b.binary("or", b.binary("shl", length, Const(16)), start)
        b.store(record, b.resize(word, I32, False), offset)
        return b.add(used, length)

    # -- helpers
    def text_length(self, got: Value) -> Value:
        """The length without the NUL of what a string read returned, 0 if the read failed.

        The very value that is compared is the one that goes on: kernels before 6.13 forget what they know of ``got`` for ``got - 1``.
        """
        b = self.b
        return b.sub(b.select(b.icmp("sgt", got, Const(0)), got, Const(1)), Const(1))

    def helper(self, name: str, *args: Value | int, span: Span | None = None) -> Value:
        return self.b.helper(name, *[Const(a) if isinstance(a, int) else a for a in args])

    def current_pid(self) -> Value:
        """The process id (what the kernel calls tgid)."""
        return self.b.binary("lshr", self.b.helper("get_current_pid_tgid"), Const(32))
