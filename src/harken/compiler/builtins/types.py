"""Types of values in a tracing program: what a front end infers and lowering lays out.

C types (``base.ctype``) describe memory; these describe values.  A value's type says how wide it is when it is stored and, for pointers and
things in memory, where they are; ``type_fields`` says how it is shown.

Example:
    >>> str(tuple_of(integer(4, False), string(16)))
    '(uint32,string[16])'
    >>> layout((integer(1), integer(8), string(3)))
    ((0, 8, 16), 24)
    >>> str(join(integer(4, False), integer(1)))
    'int64'
"""

from __future__ import annotations

from ...base.ctype import Array, CType, Enum, Fwd, Int, Ptr, Struct, Void
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = (
    "Type", "NONE", "BOOL", "INT64", "UINT64", "INT32", "UINT32", "VOIDPTR", "MAC", "USYM", "KSYM", "INET", "integer", "string",
    "pointer", "structure", "array", "tuple_of", "buffer", "stack", "frame_size", "from_ctype", "to_ctype", "literal_type", "size_of",
    "align_of", "layout", "join", "same", "is_integer", "is_scalar", "is_printable",
    "is_copied", "copied_stack", "unwound", "COPIED",
)  # fmt: skip


class Type(Record):
    """The type of a value.

    kind          stored as                                  further fields
    ============  =========================================  ===================================================
    int bool      integer of ``size`` bytes                  ``signed``
    enum          integer                                    ``ctype`` (its names)
    ptr           u64                                        ``ctype`` (target), ``space`` ("kernel", "user", ...)
    string        ``size`` bytes, NUL-terminated
    buf           ``size`` raw bytes
    struct        as in C                                    ``ctype``, ``space`` (where it is)
    array         as in C                                    ``parts`` (element), ``count``, ``space``
    tuple record  fields with natural alignment              ``parts``, ``names``
    ksym          u64 address
    usym          u64 address, u32 pid
    kstack ustack return addresses, zero after the last      ``detail``: (mode, most frames, ...), see ``stacks``
    inet          u32 address family, 16 bytes
    mac           6 bytes
    timestamp     u64 nanoseconds since boot                 ``detail``: strftime format
    none          nothing
    ============  =========================================  ===================================================
    Aggregations of maps ("count", "sum", ...) are kinds too: ``signed`` and ``params`` in ``detail``.
    """

    kind: str
    size: int = 0
    signed: bool = False
    ctype: CType | None = None
    parts: tuple[Type, ...] = ()
    count: int = 0
    names: tuple[str, ...] = ()
    space: str = ""
    detail: Any = None

    def __str__(self) -> str:
        kind = self.kind
        if kind == "int":
            return f"{'' if self.signed else 'u'}int{self.size * 8}"
        if kind in ("string", "buf"):
            return f"{'string' if kind == 'string' else 'buffer'}[{self.size}]"
        if kind == "ptr":
            return f"{self.ctype} *".replace("* *", "**") if self.ctype is not None else "void *"
        if kind in ("struct", "enum"):
            return str(self.ctype)
        if kind == "array":
            return f"{self.parts[0]}[{self.count}]"
        if kind == "tuple":
            return f"({','.join(str(part) for part in self.parts)})"
        if kind == "record":
            return f"({','.join(f'{name}={part}' for name, part in zip(self.names, self.parts))})"
        if kind in ("kstack", "ustack"):
            return f"{kind}({self.detail[0]}, {self.detail[1]})"
        return {"ksym": "ksym_t", "usym": "usym_t", "mac": "mac_address"}.get(kind, f"{kind}_t" if kind in AGGREGATES else kind)


AGGREGATES = ("count", "sum", "min", "max", "avg", "stats", "hist", "lhist")


def integer(size: int = 8, signed: bool = True) -> Type:
    return _INTEGERS[(size, signed)]


_INTEGERS = {(size, signed): Type("int", size, signed) for size in (1, 2, 4, 8) for signed in (True, False)}
NONE, BOOL = Type("none"), Type("bool", 1)
INT64, UINT64, INT32, UINT32 = integer(8), integer(8, False), integer(4), integer(4, False)
KSYM, MAC = Type("ksym", 8), Type("mac", 6)
USYM, INET = Type("usym", 16), Type("inet", 20)
VOIDPTR = Type("ptr", 8, ctype=Void())


def string(size: int) -> Type:
    return Type("string", size)


def buffer(size: int) -> Type:
    return Type("buf", size)


_FRAME_SIZES = {"build_id": 32, "python": 16}
#: Modes of stacks that are unwound later, and how they are called when that was done.
COPIED = {"dwarf": "unwound", "mixed": "merged"}


def stack(kind: str, mode: str, limit: int) -> Type:
    """A "kstack" or "ustack" of at most ``limit`` frames."""
    return Type(kind, (8 if kind == "ustack" else 0) + _FRAME_SIZES.get(mode, 8) * limit, detail=(mode, limit))


def copied_stack(limit: int, machine: str, registers: int, memory: int, python: int = 0) -> Type:
    """A "ustack" that is unwound later: the process's registers, and at most so many bytes of its stack.

    Args:
        python: pairs of words for Python's frames, which are told with it; 0: of mode "dwarf".
    """
    return Type("ustack", 8 + 16 * python + registers + memory, detail=("mixed" if python else "dwarf", limit, machine, python))


def is_copied(kind: Type) -> bool:
    """Whether it is a stack whose frames are not known before it is unwound: it can be put out, and nothing else."""
    return kind.kind == "ustack" and kind.detail[0] in COPIED


def unwound(kind: Type) -> Type:
    """What such a stack is when it was unwound."""
    return kind.replace(detail=(COPIED[kind.detail[0]], *kind.detail[1:]))


def frame_size(kind: Type) -> int:
    """Bytes of one frame of a stack."""
    return _FRAME_SIZES.get(kind.detail[0], 8)


def pointer(target: CType | None, space: str = "") -> Type:
    return Type("ptr", 8, ctype=target if target is not None else VOIDPTR.ctype, space=space)


def structure(ctype: CType, space: str) -> Type:
    return Type("struct", ctype.size, ctype=ctype, space=space)


def array(element: Type, count: int, space: str = "") -> Type:
    return Type("array", size_of(element) * count, parts=(element,), count=count, space=space)


def tuple_of(*parts: Type, names: tuple[str, ...] = ()) -> Type:
    return Type("record" if names else "tuple", layout(parts)[1], parts=parts, names=names)


def from_ctype(ctype: CType, space: str = "") -> Type:
    """The value type of something of a C type that lies in ``space``."""
    inner = ctype.strip()
    if isinstance(inner, Int):
        if inner.encoding == "bool":
            return BOOL
        return integer(inner.size, inner.signed) if inner.size in (1, 2, 4, 8) else buffer(inner.size)
    if isinstance(inner, Ptr):
        return pointer(inner.target, inner.space or ("kernel" if space in ("btf", "ctx") else space))
    if isinstance(inner, Enum):
        return Type("enum", inner.size, inner.signed, inner)
    if isinstance(inner, Array):
        element = inner.element.strip()
        if isinstance(element, Int) and element.size == 1 and (element.encoding == "char" or element.name in ("char", "signed char")):
            return Type("string", inner.count, space=space)
        return array(from_ctype(inner.element, space), inner.count, space)
    if isinstance(inner, Struct):
        return structure(inner, space)
    return NONE


def to_ctype(kind: Type) -> CType | None:
    """A C type for a value type, for pointers to it."""
    if kind.ctype is not None and kind.kind in ("struct", "enum"):
        return kind.ctype
    if kind.kind == "int":
        return Int(str(kind), kind.size, kind.signed)
    if kind.kind == "bool":
        return Int("bool", 1, False, "bool")
    if kind.kind == "ptr":
        return Ptr(kind.ctype if kind.ctype is not None else Void(), space=kind.space)
    if kind.kind == "array":
        element = to_ctype(kind.parts[0])
        return None if element is None else Array(element, kind.count)
    if kind.kind == "string":
        return Array(Int("char", 1, True, "char"), kind.size)
    return None


def literal_type(value: int) -> Type:
    """The smallest signed type that holds a literal; unsigned only above the largest int64."""
    for size in (1, 2, 4, 8):
        if -(1 << (size * 8 - 1)) <= value < 1 << (size * 8 - 1):
            return integer(size)
    return UINT64


def is_integer(kind: Type) -> bool:
    return kind.kind in ("int", "bool", "enum")


def is_scalar(kind: Type) -> bool:
    """Held in a register."""
    return kind.kind in ("int", "bool", "enum", "ptr", "ksym", "timestamp")


def is_printable(kind: Type) -> bool:
    return kind.kind != "none" and kind.kind not in AGGREGATES


def size_of(kind: Type) -> int:
    return kind.size


def align_of(kind: Type) -> int:
    """Natural alignment of a stored value; structs are kept 8-byte aligned, which is enough for any member."""
    name = kind.kind
    if name in ("string", "buf", "mac", "none"):
        return 1
    if name == "inet":
        return 4
    if name == "array":
        return align_of(kind.parts[0])
    if name in ("tuple", "record"):
        return max((align_of(part) for part in kind.parts), default=1)
    if name in ("struct", "usym", "kstack", "ustack") or name in AGGREGATES:
        return 8
    return max(1, kind.size)


def layout(parts: tuple[Type, ...]) -> tuple[tuple[int, ...], int]:
    """Offsets of values packed with natural alignment, and the size of the whole (a multiple of its alignment)."""
    offsets, position, widest = [], 0, 1
    for part in parts:
        align = align_of(part)
        widest = max(widest, align)
        position = (position + align - 1) // align * align
        offsets.append(position)
        position += size_of(part)
    return tuple(offsets), (position + widest - 1) // widest * widest


# -- joining


def same(a: Type, b: Type) -> bool:
    """The same for a user: kind, size, sign, parts; where it lies does not count."""
    if a.kind != b.kind or a.size != b.size or a.signed != b.signed or a.count != b.count or len(a.parts) != len(b.parts):
        return False
    if a.kind == "struct" and _tag(a) != _tag(b):
        return False
    return a.names == b.names and all(same(x, y) for x, y in zip(a.parts, b.parts))


def _tag(kind: Type) -> str:
    return str(kind.ctype)


def join(a: Type, b: Type) -> Type | None:
    """The type that holds values of both; None if there is none.

    Integers widen; signed with unsigned gives int64; strings and buffers grow; an enum with a number is a number.
    """
    if a is b:
        return a
    if a.kind == b.kind:
        kind = a.kind
        if kind in ("string", "buf"):
            return a if a.size >= b.size else b
        if kind == "int":
            if a.signed == b.signed:
                return a if a.size >= b.size else b
            return INT64
        if kind in ("tuple", "record"):
            if len(a.parts) != len(b.parts) or a.names != b.names:
                return None
            parts = [join(x, y) for x, y in zip(a.parts, b.parts)]
            if any(part is None for part in parts):
                return None
            return tuple_of(*[part for part in parts if part is not None], names=a.names)
        if kind == "ptr":
            if _void(a):
                return b
            if _void(b) or str(a) == str(b):
                return a if a.space == b.space or not b.space else a.replace(space=a.space or b.space)
            return VOIDPTR.replace(space=a.space)
        if kind == "enum":
            return a if _tag(a) == _tag(b) else join(integer(a.size, a.signed), integer(b.size, b.signed))
        if kind in ("sum", "min", "max", "avg", "stats"):
            return a if a.signed else b
        if kind == "array":
            return a if same(a, b) else None
        if kind == "timestamp":
            return a
        return a if same(a, b) and a.detail == b.detail else None
    kinds = {a.kind, b.kind}
    if kinds <= {"int", "enum", "bool"}:
        return join(_number(a), _number(b))
    if kinds == {"int", "ptr"}:
        return a if a.kind == "ptr" else b
    return None


def _number(kind: Type) -> Type:
    return kind if kind.kind == "int" else integer(kind.size, kind.signed or kind.kind == "bool")


def _void(kind: Type) -> bool:
    return kind.ctype is None or isinstance(kind.ctype, (Void, Fwd))
