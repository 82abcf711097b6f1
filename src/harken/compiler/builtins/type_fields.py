"""How values are laid out and shown when they are stored: types of values to fields of schemas.

Example:
    >>> from harken.compiler.builtins.types import string
    >>> field("name", string(16), 8)
    Field(name='name', offset=8, kind='s', count=16, role='', schema=None, detail=None)
"""

from __future__ import annotations

from ...base.ctype import Array, CType, Enum, Struct
from ...base.schema import Field, Schema
from .types import COPIED, Type, from_ctype, layout

__all__ = ("field", "fields", "holds_copied")


def fields(parts: tuple[Type, ...], names: tuple[str, ...], base: int = 0) -> tuple[Field, ...]:
    """Fields of values that are packed with natural alignment."""
    offsets, _ = layout(parts)
    return tuple(field(name, part, base + offset) for name, part, offset in zip(names, parts, offsets))


def field(name: str, kind: Type, offset: int) -> Field:
    """How a stored value is laid out and shown."""
    what = kind.kind
    if what == "int":
        return Field(name, offset, _code(kind.size, kind.signed))
    if what == "bool":
        return Field(name, offset, "B", role="bool")
    if what == "enum":
        assert isinstance(kind.ctype, Enum)
        values = tuple((value, text) for text, value in kind.ctype.values.items())
        return Field(name, offset, _code(kind.size, kind.signed), role="enum", detail=values)
    if what == "ptr":
        return Field(name, offset, "Q", role="ptr")
    if what == "string":
        return Field(name, offset, "s", kind.size)
    if what in ("buf", "mac", "inet"):
        return Field(name, offset, "p", kind.size, role=what)
    if what in ("ksym", "timestamp"):
        return Field(name, offset, "Q", role=what, detail=kind.detail)
    if what in ("kstack", "ustack"):
        return Field(name, offset, "p", kind.size, role=what, detail=kind.detail)
    if what == "usym":
        schema = Schema("usym", 16, (Field("addr", 0, "Q"), Field("pid", 8, "I")))
        return Field(name, offset, "r", 1, "usym", schema)
    if what in ("tuple", "record"):
        names = kind.names or tuple(str(i) for i in range(len(kind.parts)))
        schema = Schema(what, kind.size, fields(kind.parts, names))
        return Field(name, offset, "r", 1, "tuple" if what == "tuple" else "struct", schema)
    if what == "array":
        return _array_field(name, kind, offset)
    if what == "struct":
        return Field(name, offset, "r", 1, "struct", _struct_schema(kind.ctype, 0))
    return Field(name, offset, "p", max(1, kind.size), role=what)


def _code(size: int, signed: bool) -> str:
    code = {1: "b", 2: "h", 4: "i", 8: "q"}[size]
    return code if signed else code.upper()


def _array_field(name: str, kind: Type, offset: int) -> Field:
    element = field("", kind.parts[0], 0)
    if element.kind in "bBhHiIqQ" and element.count == 1:
        return Field(name, offset, element.kind, max(1, kind.count), "array" if kind.count == 1 else element.role, detail=element.detail)
    schema = Schema("element", kind.parts[0].size, (element,))
    return Field(name, offset, "r", max(1, kind.count), "array", schema)


def _struct_schema(ctype: CType | None, depth: int) -> Schema:
    """Members that can be shown; bit fields carry their position in ``detail`` as ("bits", shift, width)."""
    assert isinstance(ctype, Struct)
    out: list[Field] = []
    for member in ctype.members:
        offset = member.bit_offset // 8
        inner = member.type.strip()
        if member.bit_size:
            size = max(1, inner.size)
            start = member.bit_offset // (size * 8) * size
            if start + size > ctype.size:
                continue
            shift = member.bit_offset - start * 8
            out.append(
                Field(
                    member.name, start, _code(size, getattr(inner, "signed", False)), role="bits", detail=("bits", shift, member.bit_size)
                )
            )
            continue
        if isinstance(inner, Struct):
            if depth > 8 or not inner.size:
                continue
            if not member.name:
                nested = _struct_schema(inner, depth + 1)
                out += [one.replace(offset=one.offset + offset) for one in nested.fields]
                continue
            out.append(Field(member.name, offset, "r", 1, "struct", _struct_schema(inner, depth + 1)))
            continue
        if isinstance(inner, Array) and (not inner.size or (isinstance(inner.element.strip(), Struct) and depth > 4)):
            continue
        kind = from_ctype(member.type)
        if kind.kind != "none":
            out.append(field(member.name, kind, offset))
    return Schema(ctype.name or ctype.kind, ctype.size, tuple(out))


def holds_copied(schema: Schema) -> bool:
    """Whether an event carries such a stack."""
    return any([field.role == "ustack" and isinstance(field.detail, tuple) and field.detail[0] in COPIED for field in schema.fields])
