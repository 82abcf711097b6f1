"""clang's types as ``base.ctype`` values.

Structs of the kernel become the very ``Struct`` that its BTF gives, with all members, however few of them were written for the
parser; a program's own structs take their layout from clang.  Qualifiers are dropped.
"""

from __future__ import annotations

from ...base.ctype import VOID, Array, CType, Enum, Float, Func, Fwd, Int, Member, Ptr, Struct, Typedef
from ...base.errors import HarkenError
from . import libclang as lc
from .headers import PACKET_MARK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .libclang import Cursor, Parsed, Type

__all__ = ("Types",)

_INTS: dict[int, tuple[str, int, bool, str]] = {
    lc.T_BOOL: ("_Bool", 1, False, "bool"),
    lc.T_CHAR_U: ("char", 1, False, "char"),
    lc.T_CHAR_S: ("char", 1, True, "char"),
    lc.T_SCHAR: ("signed char", 1, True, "int"),
    lc.T_UCHAR: ("unsigned char", 1, False, "int"),
    lc.T_CHAR16: ("char16_t", 2, False, "int"),
    lc.T_CHAR32: ("char32_t", 4, False, "int"),
    lc.T_WCHAR: ("wchar_t", 4, True, "int"),
    lc.T_SHORT: ("short", 2, True, "int"),
    lc.T_USHORT: ("unsigned short", 2, False, "int"),
    lc.T_INT: ("int", 4, True, "int"),
    lc.T_UINT: ("unsigned int", 4, False, "int"),
    lc.T_LONG: ("long", 8, True, "int"),
    lc.T_ULONG: ("unsigned long", 8, False, "int"),
    lc.T_LONGLONG: ("long long", 8, True, "int"),
    lc.T_ULONGLONG: ("unsigned long long", 8, False, "int"),
    lc.T_INT128: ("__int128", 16, True, "int"),
    lc.T_UINT128: ("unsigned __int128", 16, False, "int"),
}
_FLOATS = {lc.T_FLOAT: ("float", 4), lc.T_DOUBLE: ("double", 8), lc.T_LONGDOUBLE: ("long double", 16)}
#: one object per fundamental type, so that the same type is the same object
_KNOWN: dict[int, CType] = {
    lc.T_VOID: VOID,
    **{kind: Int(*row) for kind, row in _INTS.items()},
    **{kind: Float(*row) for kind, row in _FLOATS.items()},
}


class Types:
    """The types of one parsed program.

    Args:
        kernel: structs that were written from BTF, by tag.
        packets: whether to look for headers of packets.
    """

    def __init__(self, parsed: Parsed, kernel: Mapping[str, Struct], packets: bool = False) -> None:
        self._parsed, self._lib, self._kernel = parsed, lc.library(), kernel
        self._types: dict[int, CType] = {}
        self._records: dict[int, CType] = {}
        self._pending: list[Ptr] = []
        self._look = packets
        #: structs that are headers of packets
        self.packets: set[Struct] = set()
        #: structs and unions by tag that the program itself defines and uses
        self.own: dict[str, Struct] = {}

    def finish(self) -> None:
        """Finds out what pointers point to, as long as clang can be asked: types outlive the parsed program."""
        while self._pending:
            self._pending.pop().target  # noqa: B018

    def of(self, cursor: Cursor) -> CType:
        """The type of an expression or declaration."""
        return self.convert(self._lib.clang_getCursorType(cursor))

    def convert(self, kind: Type) -> CType:
        """A clang type; raises HarkenError for what C in the kernel cannot have."""
        key = kind.data0 or 0
        found = self._types.get(key) if key else None
        if found is None:
            found = self._types[key] = self._convert(kind)
        return found

    def _convert(self, kind: Type) -> CType:
        lib = self._lib
        known = _KNOWN.get(kind.kind)
        if known is not None:
            return known
        if kind.kind == lc.T_POINTER:
            target = lib.clang_getPointeeType(kind)
            pointer = Ptr(lambda: self.convert(target))
            self._pending.append(pointer)
            return pointer
        if kind.kind == lc.T_TYPEDEF:
            declaration = lib.clang_getTypeDeclaration(kind)
            target = self.convert(lib.clang_getTypedefDeclUnderlyingType(declaration))
            return Typedef(lc.text(lib.clang_getTypedefName(kind)), target)
        if kind.kind in (lc.T_CONSTANT_ARRAY, lc.T_INCOMPLETE_ARRAY):
            count = lib.clang_getArraySize(kind) if kind.kind == lc.T_CONSTANT_ARRAY else 0
            return Array(self.convert(lib.clang_getArrayElementType(kind)), count)
        if kind.kind in (lc.T_FUNCTION, lc.T_FUNCTION_NO_PROTO):
            count = max(0, lib.clang_getNumArgTypes(kind))
            params = tuple((f"arg{n}", self.convert(lib.clang_getArgType(kind, n))) for n in range(count))
            return Func("", self.convert(lib.clang_getResultType(kind)), params, bool(lib.clang_isFunctionTypeVariadic(kind)))
        if kind.kind == lc.T_RECORD:
            return self.record(lib.clang_getTypeDeclaration(kind))
        if kind.kind == lc.T_ENUM:
            return self._enum(lib.clang_getTypeDeclaration(kind))
        if kind.kind == lc.T_ELABORATED:
            return self.convert(lib.clang_Type_getNamedType(kind))
        canonical = lib.clang_getCanonicalType(kind)
        if canonical.kind != kind.kind and canonical.data0:
            return self.convert(canonical)
        hint = "give the array a constant size" if kind.kind == lc.T_VARIABLE_ARRAY else ""
        raise HarkenError(f"the type {lc.text(lib.clang_getTypeSpelling(kind))!r} cannot be used in a BPF program", hint=hint)

    def record(self, declaration: Cursor) -> CType:
        """A struct or union by its declaration."""
        lib, parsed = self._lib, self._parsed
        definition = lib.clang_getCursorDefinition(declaration)
        complete = not lc.INVALID_FIRST <= definition.kind <= lc.INVALID_LAST
        cursor = definition if complete else declaration
        found = self._records.get(cursor.data0 or 0)
        if found is not None:
            return found
        anonymous = lib.clang_Cursor_isAnonymous(cursor)
        name = "" if anonymous else parsed.spelling(cursor)
        keyword = "union" if cursor.kind == lc.UNION_DECL else "struct"
        kernel = self._kernel.get(name)
        if not complete:
            made: CType = Fwd(name, keyword)
        elif name and kernel is not None and kernel.kind == keyword:
            made = kernel
        else:
            kind = lib.clang_getCursorType(cursor)
            size, align = lib.clang_Type_getSizeOf(kind), lib.clang_Type_getAlignOf(kind)
            struct = Struct(name, max(0, size), lambda: self._members(cursor), keyword, max(1, align))
            made = struct
            if name:
                self.own[name] = struct
            if self._look and any(part.kind == lc.ANNOTATE and parsed.spelling(part) == PACKET_MARK for part in parsed.children(cursor)):
                self.packets.add(struct)
        self._records[cursor.data0 or 0] = made
        if isinstance(made, Struct) and made is not kernel:
            made.members  # noqa: B018  # the parsed program does not live as long as the type
        return made

    def _members(self, cursor: Cursor) -> tuple[Member, ...]:
        lib, parsed = self._lib, self._parsed
        members = []
        for field in parsed.fields(lib.clang_getCursorType(cursor)):
            bits = lib.clang_getFieldDeclBitWidth(field) if lib.clang_Cursor_isBitField(field) else 0
            kind = self.of(field)
            name = parsed.spelling(field)
            if not name.isidentifier():  # newer libclang calls nameless members by their type
                name = ""
            if not name and not isinstance(kind.strip(), Struct):
                continue  # an unnamed bitfield is padding
            members.append(Member(name, kind, max(0, lib.clang_Cursor_getOffsetOfField(field)), bits))
        return tuple(members)

    def _enum(self, declaration: Cursor) -> Enum:
        lib, parsed = self._lib, self._parsed
        found = self._records.get(declaration.data0 or 0)
        if isinstance(found, Enum):
            return found
        base = self.convert(lib.clang_getEnumDeclIntegerType(declaration)).strip()
        values = {
            parsed.spelling(child): lib.clang_getEnumConstantDeclValue(child)
            for child in parsed.children(declaration)
            if child.kind == lc.ENUM_CONSTANT
        }
        name = "" if lib.clang_Cursor_isAnonymous(declaration) else parsed.spelling(declaration)
        made = Enum(name, base.size or 4, values, isinstance(base, Int) and base.signed)
        self._records[declaration.data0 or 0] = made
        return made
