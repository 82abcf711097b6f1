"""Written types and questions about types: casts, ``sizeof``, ``offsetof``."""

from __future__ import annotations

from ...base.ctype import VOID, Array, CType, Enum, Int, Member, Ptr, Struct
from ...base.diagnostics import Span, nearest
from ...compiler.builtins import types as T
from . import ast as A
from .check_scope import Scope
from .parser import TYPE_NAMES

__all__ = ("Types",)


class Types(Scope):
    """Types by name."""

    # -- types by name
    def resolve(self, name: A.TypeName, space: str = "") -> T.Type | None:
        """A written type."""
        base = self.base_type(name, space)
        if base is None:
            return None
        kind = base
        dims = name.dims[1:] if name.name in ("string", "buffer") and name.dims else name.dims
        for level in range(name.stars):
            target = self.base_ctype(base) if level == 0 else T.to_ctype(kind)
            if level == 0 and base.kind == "none":
                kind = T.VOIDPTR.replace(space=space)
            else:
                kind = T.pointer(target, space)
        for size in reversed(dims):
            if kind.kind == "none":
                self.error("an array of void is not possible", name.span)
                return None
            kind = T.array(kind, size or 0)
        return kind

    def base_ctype(self, base: T.Type) -> CType | None:
        """The C type behind a written type."""
        return base.ctype if base.ctype is not None and base.kind in ("struct", "enum") else T.to_ctype(base)

    def base_type(self, name: A.TypeName, space: str) -> T.Type | None:
        text = name.name
        if text == "tuple":
            parts = [self.resolve(part) for part in name.parts]
            return None if any(part is None for part in parts) else T.tuple_of(*[part for part in parts if part is not None])
        own = self.own_types.get(text)
        if own is not None:
            return T.from_ctype(own, space)
        simple = _SIMPLE.get(text)
        if simple is not None:
            return simple
        if text in ("string", "buffer"):
            size = name.dims[0] if name.dims and name.dims[0] else self.max_strlen
            return T.string(size) if text == "string" else T.buffer(size)
        if text in TYPE_NAMES:
            self.error(f"the type {text} can not be written here", name.span)
            return None
        btf = self.catalogue.btf
        found = btf.find(text) if btf is not None else None
        if found is None:
            hint = "the kernel's types need BTF, which this kernel does not have" if btf is None else self.near_type(text)
            self.error(f"Unknown type: {text}" if " " not in text else f'Cannot resolve unknown type "{text}"', name.span, hint)
            return None
        return T.from_ctype(found, space)

    def near_type(self, text: str) -> str:
        near = nearest(text, TYPE_NAMES)
        if near:
            return f"did you mean {near[0]}?"
        kind, _, tag = text.partition(" ")
        if tag and self.catalogue.btf is not None:
            known = self.catalogue.btf.names(kind) if kind in ("struct", "union", "enum") else []
            close = nearest(tag, [one for one in known if abs(len(one) - len(tag)) <= 2 and one[:1] == tag[:1]])
            if close:
                return f"did you mean {kind} {close[0]}?"
        return ""

    @staticmethod
    def struct_of(kind: T.Type) -> Struct | None:
        if kind.ctype is None or kind.kind not in ("ptr", "struct"):
            return None
        inner = kind.ctype.strip()
        return inner if isinstance(inner, Struct) else None

    def dereference(self, kind: T.Type, span: Span) -> T.Type | None:
        target = kind.ctype.strip() if kind.ctype is not None else None
        found = T.from_ctype(kind.ctype, kind.space) if target is not None and kind.ctype is not None else T.NONE
        if found.kind == "none":
            self.error(f"Can not dereference a value of type '{kind}'", span, "cast it to a pointer to something first: *(uint32 *)$x")
            return None
        return found

    def define(self, types: tuple[A.CStruct | A.CEnum, ...]) -> None:
        """Takes the program's own C types; they win over the kernel's."""
        for one in types:
            if isinstance(one, A.CEnum):
                signed = any(value < 0 for _, value in one.values)
                wide = any(not -(1 << 31) <= value < 1 << 32 for _, value in one.values)
                enum = Enum(one.name, 8 if wide else 4, dict(one.values), signed)
                self.own_types[f"enum {one.name}"] = enum
                for constant, _ in one.values:
                    self.own_constants[constant] = enum
            else:
                self.own_types[f"{one.kind} {one.name}"] = self.laid_out(one)

    def laid_out(self, node: A.CStruct) -> Struct:
        """A struct with its members where a C compiler puts them."""
        members: list[Member] = []
        bits, widest, largest = 0, 1, 0
        for one in node.members:
            ctype = self.member_type(one)
            if ctype is None or not ctype.size:
                continue
            align = 1 if node.packed else ctype.align
            widest = max(widest, align)
            unit = ctype.size * 8
            if node.kind == "union":
                bits = 0
            elif one.bits and one.bits <= unit:
                # a bit field does not cross the border of its type's storage
                if not node.packed and bits // unit != (bits + one.bits - 1) // unit:
                    bits = (bits + unit - 1) // unit * unit
            else:
                bits = (bits + align * 8 - 1) // (align * 8) * (align * 8)
            members.append(Member(one.name, ctype, bits, one.bits))
            bits += one.bits or unit
            largest = max(largest, bits)
        size = ((largest + 7) // 8 + widest - 1) // widest * widest
        return Struct(node.name, size, tuple(members), node.kind, widest)

    def member_type(self, node: A.CMember) -> CType | None:
        name = node.type
        ctype: CType | None = Int("char", 1, True, "char") if name.name == "char" else None
        if ctype is None and name.name == "void":
            ctype = VOID
        if ctype is None:
            base = self.base_type(name, "") if not (name.stars and " " in name.name) else self.pointed_type(name)
            ctype = base.ctype if base is not None and base.kind in ("struct", "enum") else T.to_ctype(base) if base is not None else None
        if ctype is None:
            return None
        for _ in range(name.stars):
            ctype = Ptr(ctype)
        for size in reversed(node.dims):
            ctype = Array(ctype, size)
        return ctype

    def pointed_type(self, name: A.TypeName) -> T.Type | None:
        """The struct that a member points to; one that is not known is as good as void."""
        own = self.own_types.get(name.name)
        btf = self.catalogue.btf
        found = own or (btf.find(name.name) if btf is not None else None)
        return T.from_ctype(found) if found is not None else T.Type("struct", 0, ctype=VOID)

    def x_Sizeof(self, node: A.Sizeof) -> T.Type | None:
        kind = self.resolve(node.of) if isinstance(node.of, A.TypeName) else self.expr(node.of)
        if kind is None:
            return None
        self.fold(node, kind.size)
        return T.UINT64

    def x_Offsetof(self, node: A.Offsetof) -> T.Type | None:
        kind = self.resolve(node.of) if isinstance(node.of, A.TypeName) else self.expr(node.of)
        if kind is None:
            return None
        current: CType | None = self.struct_of(kind)
        bits = 0
        for name in node.path.split("."):
            inner = current.strip() if current is not None else None
            if not isinstance(inner, Struct):
                self.error(f"offsetof needs a struct ('{kind}' provided)", node.span)
                return None
            member = inner.member(name)
            if member is None:
                near = nearest(name, list(inner.names()))
                self.error(
                    f"Struct/union of type '{inner}' does not contain a field named '{name}'",
                    node.span,
                    f"did you mean {near[0]}?" if near else "",
                )
                return None
            bits += member.bit_offset
            current = member.type
        self.fold(node, bits // 8)
        return T.UINT64

    def x_Typeof(self, node: A.Typeof) -> None:
        self.error(f"{node.name}() is not yet available", node.span)


_SIMPLE: dict[str, T.Type] = {
    "bool": T.BOOL,
    "char": T.integer(1),
    "void": T.NONE,
    "int": T.INT32,
    "uint": T.UINT32,
    "inet": T.INET,
    "mac_address": T.MAC,
    "ksym_t": T.KSYM,
    "usym_t": T.USYM,
    **{f"{'' if signed else 'u'}int{size * 8}": T.integer(size, signed) for size in (1, 2, 4, 8) for signed in (True, False)},
}
