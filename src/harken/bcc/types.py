"""C types as ctypes classes: the ``Key``, ``Leaf`` and event classes that scripts work with.

Two steps: ``describe`` turns a ``base.ctype`` type into nested tuples, which the cache of compiled programs keeps, and ``ctypes_class``
makes a class of them.  A second start therefore needs neither the compiler's types nor the kernel's.

What a script sees is what BCC shows: arrays of ``char`` are bytes up to the first NUL, ``__int128`` is an array of two 64-bit integers,
anonymous members are ``__anonN`` and reached through, gaps in a table's structs are members ``__pad_N`` and ``__pad_end``, pointers in
keys and values are unsigned integers.  Nested structs are allowed everywhere, in events too.  Every offset and size is the compiler's: a
class whose natural ctypes layout would differ gets explicit padding, and bitfields that ctypes lays out otherwise become properties.

Example:
    >>> from harken.base.ctype import Array, Int, Member, Struct
    >>> from harken.bcc.types import ctypes_class, describe
    >>> u32, u64, char = Int("unsigned int", 4, False), Int("unsigned long long", 8, False), Int("char", 1, True)
    >>> key = Struct("key_t", 16, (Member("pid", u32, 0), Member("slot", u64, 64)))
    >>> Key = ctypes_class(describe(key))
    >>> [name for name, *_ in Key._fields_], Key.slot.offset
    (['pid', '__pad_1', 'slot'], 8)
    >>> ctypes_class(describe(Struct("", 16, (Member("comm", Array(char, 16), 0),))))(b"cat").comm
    b'cat'
"""

from __future__ import annotations

import ctypes as ct

from ..base.ctype import Array, CType, Enum, Float, Int, Ptr, Struct, Typedef
from ..base.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("ctypes_class", "describe", "struct_class")

_SIGNED = {1: ct.c_byte, 2: ct.c_short, 4: ct.c_int, 8: ct.c_longlong}
_UNSIGNED = {1: ct.c_ubyte, 2: ct.c_ushort, 4: ct.c_uint, 8: ct.c_ulonglong}
#: how deep structs may nest, which type data from outside could abuse
_DEPTH = 64
#: array elements beyond this cannot lie in a map or a record
_ELEMENTS = 1 << 28


def describe(kind: CType, event: bool = False, depth: int = 0) -> Any:
    """A type as plain data.

    Scalars are (class, size); class is "s", "u" (integers), "c" (char), "b" (bool), "f", "p" (pointer), "l" (long), "L" (unsigned
    long).  Arrays are ("array", element, count); structs and unions (kind, name, size, ((member, description, bit offset, bit size), ...)).

    Args:
        event: as records of perf and ring buffers show it (pointers are ``c_void_p``, enumerations signed), not as keys and values.
    """
    if depth > _DEPTH:
        raise FormatError("a C type", "structs are nested too deep")
    if event and isinstance(kind, Typedef) and kind.name == "s8":
        return ("c", 1)  # what BCC gives for it
    plain = kind.strip()
    if isinstance(plain, Int):
        if plain.size == 16:
            return ("array", ("s" if plain.signed else "u", 8), 2)
        if plain.encoding == "bool" or plain.name in ("_Bool", "bool"):
            return ("b", plain.size)
        if plain.name == "char":
            return ("c", 1)
        if plain.name in ("long", "long int"):
            return ("l", plain.size)
        if plain.name in ("unsigned long", "long unsigned int"):
            return ("L", plain.size)
        return ("s" if plain.signed else "u", plain.size)
    if isinstance(plain, Enum):
        return ("s" if event or plain.signed else "u", plain.size or 4)
    if isinstance(plain, Ptr):
        return ("p" if event else "u", 8)
    if isinstance(plain, Float):
        return ("f", plain.size)
    if isinstance(plain, Array):
        if plain.count > _ELEMENTS:
            raise FormatError("a C type", f"an array has {plain.count} elements")
        return ("array", describe(plain.element, event, depth + 1), plain.count)
    if isinstance(plain, Struct):
        members = tuple([(m.name, describe(m.type, event, depth + 1), m.bit_offset, m.bit_size) for m in plain.members])
        return (plain.kind if not event else f"event {plain.kind}", plain.name, plain.size, members)
    return ("u", plain.size or 8)


_made: dict[Any, Any] = {}


def ctypes_class(description: Any) -> Any:
    """The ctypes class of a description; equal descriptions share one."""
    found = _made.get(description)
    if found is None:
        found = _made[description] = _make(description)
    return found


def _make(description: Any) -> Any:
    kind = description[0]
    if kind == "array":
        return ctypes_class(description[1]) * description[2]
    if len(description) == 4:
        return struct_class(*description)
    size = description[1]
    if kind == "c":
        return ct.c_char
    if kind == "b":
        return ct.c_bool
    if kind == "p":
        return ct.c_void_p
    if kind == "f":
        return {4: ct.c_float, 8: ct.c_double}.get(size, ct.c_longdouble)
    if kind == "l":
        return ct.c_long
    if kind == "L":
        return ct.c_ulong
    table = _SIGNED if kind == "s" else _UNSIGNED
    return table.get(size) or ct.c_ubyte * size


def struct_class(kind: str, name: str, size: int, members: tuple[tuple[str, Any, int, int], ...]) -> Any:
    """A Structure or Union with exactly this layout.

    Args:
        kind: "struct" or "union", with "event " before it where gaps need no names.
        members: (name or "", description, bit offset, bit size or 0).
    """
    event = kind.startswith("event ")
    if kind.endswith("union"):
        return _union(name, size, members)
    fields, anonymous = _fields(size, members, event)
    body: dict[str, Any] = {"_anonymous_": anonymous, "_fields_": fields}
    made = type(name, (ct.Structure,), body)
    if _agrees(made, size, members):
        return made
    packed, anonymous = _fields(size, members, event, 1)
    made = type(name, (ct.Structure,), {"_anonymous_": anonymous, "_pack_": 1, "_layout_": "ms", "_fields_": packed})
    if _agrees(made, size, members):
        return made
    return _by_hand(name, size, members)


def _fields(size: int, members: tuple[tuple[str, Any, int, int], ...], event: bool, pack: int = 0) -> tuple[list[Any], list[str]]:
    """``_fields_`` with padding, and the names of anonymous members."""
    fields: list[Any] = []
    anonymous: list[str] = []
    place = 0  # bytes so far, as ctypes counts; in runs of bitfields only roughly
    widest = 1
    bits = any(bit_size for *_, bit_size in members)
    for index, (name, description, bit_offset, bit_size) in enumerate(members):
        member = ctypes_class(description)
        align = 1 if pack else ct.alignment(member)
        widest = max(widest, align)
        if not name:
            if bit_size:
                continue  # an unnamed bitfield is only a gap
            name = f"__anon{len(anonymous)}"
            anonymous.append(name)
        if bit_size:
            fields.append((name, member, bit_size))
            place = max(place, (bit_offset + bit_size + 7) // 8)
            continue
        wanted = bit_offset // 8
        natural = (place + align - 1) // align * align
        # BCC's tables name every gap; elsewhere only those that ctypes would not leave by itself
        if wanted > place and not bits and (not event or natural != wanted):
            fields.append((f"__pad_{index}", ct.c_char * (wanted - place)))
        fields.append((name, member))
        place = wanted + ct.sizeof(member)
    natural = (place + widest - 1) // widest * widest
    if size > place and not bits and (not event or natural != size):
        fields.append(("__pad_end", ct.c_char * (size - place)))
    return fields, anonymous


def _union(name: str, size: int, members: tuple[tuple[str, Any, int, int], ...]) -> Any:
    fields: list[Any] = []
    anonymous: list[str] = []
    for member_name, description, bit_offset, bit_size in members:
        member = ctypes_class(description)
        if not member_name:
            if bit_size:
                continue
            member_name = f"__anon{len(anonymous)}"
            anonymous.append(member_name)
        fields.append((member_name, member, bit_size) if bit_size else (member_name, member))
        assert not bit_offset or bit_size
    made = type(name, (ct.Union,), {"_anonymous_": anonymous, "_fields_": fields})
    if ct.sizeof(made) == size:
        return made
    if ct.sizeof(made) < size:
        fields.append(("__pad_end", ct.c_char * size))
        return type(name, (ct.Union,), {"_anonymous_": anonymous, "_fields_": fields})
    packed = {"_anonymous_": anonymous, "_pack_": 1, "_layout_": "ms", "_fields_": fields}
    return type(name, (ct.Union,), packed)


def _agrees(made: Any, size: int, members: tuple[tuple[str, Any, int, int], ...]) -> bool:
    """Whether a class has the layout that was asked for."""
    if ct.sizeof(made) != size:
        return False
    anonymous = 0
    for name, _description, bit_offset, bit_size in members:
        if not name:
            if bit_size:
                continue
            name = f"__anon{anonymous}"
            anonymous += 1
        field = made.__dict__[name]
        shift = field.size & 0xFFFF if bit_size else 0
        if field.offset * 8 + shift != bit_offset or (bit_size and field.size >> 16 != bit_size):
            return False
    return True


def _by_hand(name: str, size: int, members: tuple[tuple[str, Any, int, int], ...]) -> Any:
    """A class over plain bytes, whose bitfields are properties."""
    fields: list[Any] = []
    anonymous: list[str] = []
    body: dict[str, Any] = {}
    place = 0
    for index, (member_name, description, bit_offset, bit_size) in enumerate(members):
        if bit_size:
            if member_name:
                body[member_name] = _bits(bit_offset, bit_size, description[0] == "s")
            continue
        wanted = bit_offset // 8
        if wanted > place:
            fields.append((f"__pad_{index}", ct.c_char * (wanted - place)))
        if not member_name:
            member_name = f"__anon{len(anonymous)}"
            anonymous.append(member_name)
        member = ctypes_class(description)
        fields.append((member_name, member))
        place = wanted + ct.sizeof(member)
    if size > place:
        fields.append(("__pad_end", ct.c_char * (size - place)))
    body.update({"_anonymous_": anonymous, "_pack_": 1, "_layout_": "ms", "_fields_": fields})
    return type(name, (ct.Structure,), body)


def _bits(bit_offset: int, bit_size: int, signed: bool) -> property:
    first, last = bit_offset // 8, (bit_offset + bit_size + 7) // 8
    shift, mask = bit_offset % 8, (1 << bit_size) - 1

    def read(self: Any) -> int:
        value = int.from_bytes(memoryview(self).cast("B")[first:last], "little") >> shift & mask
        return value - (1 << bit_size) if signed and value >> (bit_size - 1) else value

    def write(self: Any, value: int) -> None:
        memory = memoryview(self).cast("B")
        whole = int.from_bytes(memory[first:last], "little") & ~(mask << shift) | (value & mask) << shift
        memory[first:last] = whole.to_bytes(last - first, "little")

    return property(read, write)
