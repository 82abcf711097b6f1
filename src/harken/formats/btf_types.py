"""C types and variables as BTF: what maps and global variables of our programs are made of.

``TypeWriter`` goes on where ``BtfWriter`` ends: it can also continue a blob that exists already (types keep their ids).

Example:
    >>> from harken.base.ctype import Int, Member, Struct
    >>> from harken.formats.btf import Btf
    >>> u32 = Int("unsigned int", 4, False)
    >>> writer = TypeWriter()
    >>> number = writer.ctype(Struct("point", 8, (Member("x", u32, 0), Member("y", u32, 32))))
    >>> Btf(writer.data()).type(number).declare()
    'struct point'
"""

from __future__ import annotations

from struct import pack, unpack_from

from ..base.ctype import Array, Enum, Float, Func, Fwd, Int, Ptr, Struct, Typedef, Void
from .btf_writer import BtfWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.ctype import CType

__all__ = ("TypeWriter",)

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF, _FUNC_PROTO = 1, 2, 3, 4, 5, 6, 7, 8, 13
_VAR, _DATASEC, _FLOAT, _ENUM64 = 14, 15, 16, 19
_KIND_FLAG = 1 << 31
_SIGNED, _BOOL = 1, 4


class TypeWriter(BtfWriter):
    """Writes C types; equal names of structs are taken for the same type.

    Args:
        data: BTF to continue, "" for none.
    """

    __slots__ = ("_known",)

    def __init__(self, data: bytes = b"") -> None:
        super().__init__()
        self._known: dict[object, int] = {}
        if data:
            from .btf import Btf

            header, types, types_size, strings, strings_size = unpack_from("<IIIII", data, 4)
            self._types = [bytes(data[header + types : header + types + types_size])]
            self._strings = bytearray(data[header + strings : header + strings + strings_size])
            self._offsets = {"": 0}
            self._next = Btf(data).count

    def add(self, kind: int, name: str, last: int, tail: bytes = b"", vlen: int = 0, flag: bool = False) -> int:
        """A record: ``last`` is its size or type, ``tail`` what follows; returns the id."""
        self._types.append(pack("<III", self.string(name), (_KIND_FLAG if flag else 0) | kind << 24 | vlen, last) + tail)
        self._next += 1
        return self._next - 1

    def pointer(self, target: int) -> int:
        """A pointer to the type with this id."""
        return self._once(("pointer", target), _PTR, "", target)

    def array(self, element: int, count: int) -> int:
        """An array of the type with this id."""
        index = self.ctype(Int("unsigned int", 4, False))
        return self._once(("array", element, count), _ARRAY, "", 0, pack("<III", element, index, count))

    def variable(self, name: str, type: int) -> int:
        """A global variable."""
        return self.add(_VAR, name, type, pack("<I", 1))

    def section(self, name: str, size: int, variables: list[tuple[int, int, int]]) -> int:
        """A data section of (variable, offset, size)."""
        return self.add(_DATASEC, name, size, b"".join([pack("<III", *variable) for variable in variables]), len(variables))

    def members(self, size: int, members: list[tuple[str, int, int]], name: str = "") -> int:
        """A struct of (name, type id, offset in bytes)."""
        tail = b"".join([pack("<III", self.string(member), type, 8 * offset) for member, type, offset in members])
        return self.add(_STRUCT, name, size, tail, len(members))

    def _once(self, key: object, kind: int, name: str, last: int, tail: bytes = b"") -> int:
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self.add(kind, name, last, tail)
        return found

    def _forward(self, type: Struct | Fwd) -> int:
        """A struct or union of which only the name is said."""
        key = ("fwd", type.kind, type.name)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self.add(_FWD, type.name, 0, flag=type.kind == "union")
        return found

    def ctype(self, type: CType, depth: int = 0) -> int:
        """The id of a C type, written if it is new.  What stands behind a pointer is named but not described."""
        if isinstance(type, Void):
            return 0
        if isinstance(type, Int):
            encoding = (_SIGNED if type.signed else 0) | (_BOOL if type.encoding == "bool" else 0)
            tail = pack("<I", encoding << 24 | 8 * type.size)
            return self._once(("int", type.name, type.size, type.signed), _INT, type.name, type.size, tail)
        if isinstance(type, Float):
            return self._once(("float", type.name), _FLOAT, type.name, type.size)
        if isinstance(type, Ptr):
            return self.pointer(self._behind(type.target))
        if isinstance(type, Array):
            return self.array(self.ctype(type.element, depth + 1), type.count)
        if isinstance(type, Typedef):
            target = self.ctype(type.target, depth + 1)
            return self._once(("typedef", type.name, target), _TYPEDEF, type.name, target)
        if isinstance(type, Enum):
            return self._enum(type)
        if isinstance(type, Struct):
            return self._struct(type, depth)
        if isinstance(type, Fwd):
            return self._forward(type)
        assert isinstance(type, Func)
        return self._once(("proto",), _FUNC_PROTO, "", 0)

    def _behind(self, type: CType) -> int:
        """A pointer's target: scalars are spelled out, structs by name, the rest is void."""
        if isinstance(type, (Struct, Fwd)):
            if not type.name:
                return 0
            known = self._known.get((type.kind, type.name, type.size))
            return known if known is not None else self._forward(type)
        if isinstance(type, (Int, Float, Enum)):
            return self.ctype(type)
        if isinstance(type, Ptr):
            return self.pointer(self._behind(type.target))
        return 0

    def _enum(self, type: Enum) -> int:
        key = ("enum", type.name, tuple(type.values.items()))
        found = self._known.get(key)
        if found is None:
            wide = type.size == 8
            rows = []
            for name, value in type.values.items():
                row = pack("<II", self.string(name), value & 0xFFFFFFFF)
                rows.append(row + pack("<I", value >> 32 & 0xFFFFFFFF) if wide else row)
            found = self.add(_ENUM64 if wide else _ENUM, type.name, type.size, b"".join(rows), len(rows), type.signed)
            self._known[key] = found
        return found

    def _struct(self, type: Struct, depth: int) -> int:
        key: object = (type.kind, type.name, type.size) if type.name else ("nameless", id(type))
        found = self._known.get(key)
        if found is not None:
            return found
        if depth > 32:  # the kernel's own bound on nesting
            return self._forward(type)
        bits = any([member.bit_size for member in type.members])
        rows = []
        for member in type.members:
            inner = self.ctype(member.type, depth + 1)
            offset = member.bit_size << 24 | member.bit_offset if bits else member.bit_offset
            rows.append(pack("<III", self.string(member.name), inner, offset))
        kind = _UNION if type.kind == "union" else _STRUCT
        found = self._known[key] = self.add(kind, type.name, type.size, b"".join(rows), len(rows), bits)
        return found
