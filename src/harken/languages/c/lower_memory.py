"""Objects in memory: what an lvalue denotes, loads and stores of every C type, bitfields, and conversions between scalar types.

A scalar value is an ``ir.Value`` as wide as its C type (``_Bool`` is an ``I8``, a null pointer constant ``Const(0)``); an ``__int128``
is a ``Wide``, a pair of 64-bit values; a struct, union or array is the ``Place`` where it lies.  Together they are ``Result``.

Pointers get no space here unless it is plain (locals, map values, the context): ``compiler.passes.spaces`` finds it out by data flow when
functions have been put into one another, so a static function that is handed a stack buffer once and a kernel pointer another time
is right both times.
"""

from __future__ import annotations

from ...base.ctype import Array, CType, Enum, Float, Func, Int, Ptr, Struct, Void
from ...base.diagnostics import Span, error
from ...base.errors import SourceError
from ...compiler.builtins.code import Code, Environment
from ...compiler.builtins.events import Events
from ...compiler.ir import I8, I32, I64, PTR, Const, Function, Inst, Type, Value, int_type
from . import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .lower_unit import UnitCode

__all__ = ("Result", "Place", "Wide", "MemoryCode", "is_aggregate", "is_signed", "is_wide", "ir_type", "pointee_size")


class Place:
    """Memory: ``offset`` bytes behind ``pointer``, of a C type; ``bits`` is not 0 for a bitfield, which begins ``bit`` bits further on."""

    __slots__ = ("bit", "bits", "offset", "pointer", "type")

    def __init__(self, pointer: Value, type: CType, offset: int = 0, bit: int = 0, bits: int = 0) -> None:
        self.pointer, self.type, self.offset, self.bit, self.bits = pointer, type, offset, bit, bits

    def part(self, type: CType, bit_offset: int, bits: int = 0) -> Place:
        """A part of the object, ``bit_offset`` bits from its start."""
        return Place(self.pointer, type, self.offset + bit_offset // 8, bit_offset % 8, bits)


class Wide:
    """A 128-bit integer as two of 64 bits."""

    __slots__ = ("high", "low")

    def __init__(self, low: Value, high: Value) -> None:
        self.low, self.high = low, high


#: what an expression gives
Result = Value | Wide | Place


def is_wide(type: CType) -> bool:
    """Whether it is an ``__int128``."""
    kind = type.strip()
    return isinstance(kind, Int) and kind.size == 16


def is_aggregate(type: CType) -> bool:
    """Whether values of the type stay in memory (structs, unions, arrays)."""
    return isinstance(type.strip(), (Struct, Array))


def is_signed(type: CType) -> bool:
    """Whether an integer type is signed (pointers and ``_Bool`` are not)."""
    kind = type.strip()
    return isinstance(kind, (Int, Enum)) and kind.signed and not (isinstance(kind, Int) and kind.encoding == "bool")


def is_pointer(type: CType) -> bool:
    return isinstance(type.strip(), Ptr)


def is_bool(type: CType) -> bool:
    kind = type.strip()
    return isinstance(kind, Int) and kind.encoding == "bool"


def pointee_size(type: CType) -> int:
    """How far one step of a pointer goes (1 for ``void *`` and pointers to functions, as GNU C has it)."""
    kind = type.strip()
    if not isinstance(kind, Ptr):
        return 1
    target = kind.target.strip()
    return 1 if isinstance(target, (Void, Func)) else target.size


def ir_type(type: CType) -> Type:
    """The machine type of a scalar C type."""
    kind = type.strip()
    if isinstance(kind, Ptr):
        return PTR
    return int_type(kind.size) if kind.size in (1, 2, 4, 8) else I64


class MemoryCode:
    """The base of the code of one C function.

    Attributes:
        unit: the program that it belongs to (tables, other functions, global data).
        function: the C function, ``code.function`` the IR one.
        b, code: what instructions are added with.
        places: where each variable and parameter lies.
    """

    def __init__(self, unit: UnitCode, function: tree.Function, target: Function) -> None:
        self.unit, self.function = unit, function
        self.code = Code(unit.module, target, Events(), Environment(0, unit.cpus))
        self.b = self.code.b
        self.places: dict[tree.Declaration, Place] = {}

    # -- problems
    def fail(self, message: str, span: Span | None = None, hint: str = "") -> NoReturn:
        """Refuses the program at ``span`` (where the code being lowered stands, unless given)."""
        raise SourceError((error(message, span or self.b.span, hint),))

    def scalar(self, type: CType, span: Span | None = None) -> Type:
        """The machine type of a C type that fits a register; refuses what BPF cannot compute with."""
        kind = type.strip()
        if isinstance(kind, Float):
            self.fail(
                f"{kind.name}: BPF cannot compute with floating point numbers",
                span,
                "scale integers instead, or compute in Python",
            )
        if isinstance(kind, (Int, Enum, Ptr)) and kind.size in (1, 2, 4, 8):
            return ir_type(kind)
        if isinstance(kind, Func):
            return PTR
        self.fail(f"a value of type {type} cannot be computed with", span)

    def value(self, result: Result) -> Value:
        """A result that has to be a scalar."""
        if isinstance(result, Wide):
            return result.low
        if isinstance(result, Place):
            self.fail(f"a value of type {result.type} is used as a number")
        return result

    # -- memory
    def temporary(self, size: int, name: str = "value", align: int = 8) -> Inst:
        """``size`` bytes (rounded up to 8) of this function's own memory."""
        return self.b.alloca((max(size, 1) + 7) // 8 * 8, name, align)

    def new_place(self, type: CType, name: str = "value") -> Place:
        """Memory for an object of a type; scalars get exactly their size, so that they can become registers."""
        kind = type.strip()
        size = kind.size if kind.size in (1, 2, 4) and not is_aggregate(kind) else (max(kind.size, 1) + 7) // 8 * 8
        return Place(self.b.alloca(size, name, 8), type)

    def address(self, place: Place) -> Value:
        """The address of an object."""
        if place.bits:
            self.fail("a bitfield has no address")
        return self.b.gep(place.pointer, Const(place.offset)) if place.offset else place.pointer

    def pointer(self, value: Value) -> Value:
        """A pointer value as a pointer of the IR (null pointers are plain numbers until they are used)."""
        return value if value.type.pointer else self.b.to_pointer(self.b.resize(value, I64, False), "")

    def load(self, place: Place) -> Result:
        """The value of an object."""
        type = place.type
        if is_aggregate(type):
            return place
        if is_wide(type):
            low = self.b.load(place.pointer, I64, place.offset)
            return Wide(low, self.b.load(place.pointer, I64, place.offset + 8))
        if place.bits:
            return self._load_bits(place)
        size = type.strip().size
        if size > 1 and place.offset % size:  # a member of a packed struct
            own = self.b.alloca(size, "unaligned", size)
            self.b.copy(own, place.pointer, size, 0, place.offset)
            return self.b.load(own, self.scalar(type))
        return self.b.load(place.pointer, self.scalar(type), place.offset)

    def store(self, place: Place, value: Result) -> None:
        """Sets an object to a value of its type."""
        b = self.b
        if isinstance(value, Place):
            if value.pointer is not place.pointer or value.offset != place.offset:
                b.copy(place.pointer, value.pointer, place.type.strip().size, place.offset, value.offset)
        elif isinstance(value, Wide):
            b.store(place.pointer, value.low, place.offset)
            b.store(place.pointer, value.high, place.offset + 8)
        elif place.bits:
            self._store_bits(place, value)
        else:
            size = place.type.strip().size
            if size > 1 and place.offset % size:
                own = b.alloca(size, "unaligned", size)
                b.store(own, value)
                b.copy(place.pointer, own, size, place.offset)
            else:
                b.store(place.pointer, value, place.offset)

    def _unit_of_bits(self, place: Place) -> tuple[int, int, int]:
        """(byte offset, size, shift) of the smallest aligned word that holds a bitfield; size 0 if none of up to 8 bytes does."""
        first = place.offset * 8 + place.bit
        for size in (1, 2, 4, 8):
            start = first // (size * 8) * size
            if first + place.bits <= (start + size) * 8:
                return start, size, first - start * 8
        return first // 8, 0, first % 8

    def _load_bits(self, place: Place) -> Value:
        b = self.b
        start, size, shift = self._unit_of_bits(place)
        kind = self.scalar(place.type)
        if size:
            raw = b.resize(b.load(place.pointer, int_type(size), start), I64, False)
        else:
            # a packed field across two words
            raw = Const(0)
            for i in range((shift + place.bits + 7) // 8):
                byte = b.resize(b.load(place.pointer, I8, start + i), I64, False)
                at = 8 * i - shift
                raw = b.binary("or", raw, b.binary("shl", byte, Const(at)) if at >= 0 else b.binary("lshr", byte, Const(-at)))
            shift = 0
        if is_signed(place.type):
            raw = b.binary("shl", raw, Const(64 - shift - place.bits))
            raw = b.binary("ashr", raw, Const(64 - place.bits))
        else:
            raw = b.binary("lshr", raw, Const(shift))
            raw = b.binary("and", raw, Const((1 << place.bits) - 1))
        return b.resize(raw, kind, False)

    def _store_bits(self, place: Place, value: Value) -> None:
        b = self.b
        start, size, shift = self._unit_of_bits(place)
        mask = (1 << place.bits) - 1
        bits = b.binary("and", b.resize(value, I64, False), Const(mask))
        if size:
            word = int_type(size)
            old = b.resize(b.load(place.pointer, word, start), I64, False)
            kept = b.binary("and", old, Const(~(mask << shift)))
            b.store(place.pointer, b.resize(b.binary("or", kept, b.binary("shl", bits, Const(shift))), word, False), start)
            return
        for i in range((shift + place.bits + 7) // 8):
            at = 8 * i - shift
            here = (mask << shift) >> 8 * i & 0xFF
            part = b.binary("lshr", bits, Const(at)) if at >= 0 else b.binary("shl", bits, Const(-at))
            part = b.binary("and", part, Const(here))
            kept = b.binary("and", b.resize(b.load(place.pointer, I8, start + i), I64, False), Const(~here))
            b.store(place.pointer, b.resize(b.binary("or", kept, part), I8, False), start + i)

    def cut_bits(self, place: Place, value: Value) -> Value:
        """What is read back from a bitfield that was set to ``value``."""
        b = self.b
        wide = b.resize(value, I64, False)
        wide = b.binary("shl", wide, Const(64 - place.bits))
        wide = b.binary("ashr" if is_signed(place.type) else "lshr", wide, Const(64 - place.bits))
        return b.resize(wide, value.type, False)

    def spill(self, value: Result, type: CType) -> Value:
        """The address of memory that holds a value."""
        if isinstance(value, Place) and not value.bits:
            return self.address(value)
        place = self.new_place(type)
        self.store(place, value)
        return place.pointer

    # -- conversions
    def truth(self, value: Result) -> Value:
        """I1: whether a scalar is not zero."""
        b = self.b
        if isinstance(value, Wide):
            return b.icmp("ne", b.binary("or", value.low, value.high), Const(0))
        value = self.value(value)
        if isinstance(value, Const):
            return Const(int(value.value != 0), Type(1))
        return value if value.type.bits == 1 else b.icmp("ne", value, Const(0, I64 if value.type.pointer else value.type))

    def convert(self, value: Result, source: CType, to: CType) -> Result:
        """A scalar of one C type as another (what an assignment or cast does)."""
        b = self.b
        if is_aggregate(to) or isinstance(value, Place):
            return value
        if isinstance(to.strip(), Void):
            return Const(0, I32)
        if is_bool(to):
            return value if is_bool(source) else b.resize(self.truth(value), I8, False)
        if is_wide(to):
            if isinstance(value, Wide):
                return value
            low = b.resize(b.to_int(value), I64, is_signed(source))
            return Wide(low, b.binary("ashr", low, Const(63)) if is_signed(source) else Const(0))
        if isinstance(value, Wide):
            value = value.low
            source = Int("unsigned long", 8, False)
        kind = self.scalar(to)
        if kind.pointer:
            if value.type.pointer:
                return value
            number = b.resize(value, I64, is_signed(source))
            return number if isinstance(number, Const) and not number.value else b.to_pointer(number, "")
        if value.type.pointer:
            return b.resize(b.to_int(value), kind, False)
        return b.resize(value, kind, is_signed(source))
