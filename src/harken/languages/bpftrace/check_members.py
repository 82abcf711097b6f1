"""Tuples, casts, fields of structs, arguments of probes, elements of arrays."""

from __future__ import annotations

from ...base.ctype import Array
from ...base.diagnostics import nearest
from ...compiler.builtins import types as T
from . import ast as A
from .check_maps import Maps

__all__ = ("Members",)


class Members(Maps):
    """What is inside of a value."""

    def value(self, node: A.Expr) -> T.Type | None:
        """An expression whose value is kept."""
        kind = self.expr(node)
        if kind is not None and kind.kind == "none":
            self.error("Invalid expression for assignment: it has no value", node.span)
            return None
        return kind

    def x_Tuple(self, node: A.Tuple) -> T.Type | None:
        kinds = [self.value(item) for item in node.items]
        if any(kind is None for kind in kinds):
            return None
        if not all([kind is None or self.kept(kind, item.span) for kind, item in zip(kinds, node.items)]):
            return None
        return T.tuple_of(*[self.stored(kind) for kind in kinds if kind is not None])

    def x_RecordLit(self, node: A.RecordLit) -> T.Type | None:
        kinds = [self.value(item) for item in node.items]
        if any(kind is None for kind in kinds):
            return None
        if not all([kind is None or self.kept(kind, item.span) for kind, item in zip(kinds, node.items)]):
            return None
        return T.tuple_of(*[self.stored(kind) for kind in kinds if kind is not None], names=node.names)

    def x_Cast(self, node: A.Cast) -> T.Type | None:
        to, kind = self.resolve(node.to, self.view.space), self.expr(node.operand)
        if to is None or kind is None:
            return None
        if T.is_integer(to):
            if kind.kind in ("int", "bool", "enum", "ptr", "ksym"):
                constant = self.constants.get(id(node.operand))
                if isinstance(constant, int):
                    self.constants[id(node)] = _cut(constant, to)
                return to
            if kind.kind in ("array", "mac", "buf") and kind.size == to.size:
                return to
        elif to.kind == "ptr" and kind.kind in ("int", "ptr", "array", "string", "ksym", "enum"):
            if kind.kind == "ptr" and kind.space:
                return to.replace(space=kind.space)
            return to
        elif to.kind == "struct" and kind.kind in ("int", "ptr"):
            self.error(f"Cannot cast to '{to}': cast to a pointer to it instead", node.span, f"({to} *)...")
            return None
        elif to.kind in ("string", "array", "buf") and kind.kind in ("string", "array", "buf", "int"):
            literal = isinstance(self.constants.get(id(node.operand)), int)
            if to.kind == "array" and kind.kind == "int" and not to.count:
                to = T.array(to.parts[0], kind.size // to.parts[0].size)
            if to.kind == "array" and kind.kind == "int" and literal and to.size <= 8:
                return to
            if to.kind == "array" and kind.kind in ("string", "array", "buf") and not to.count:
                to = T.array(to.parts[0], kind.size // max(1, to.parts[0].size))
            if kind.kind != "int" or to.size == kind.size:
                return to
        elif to.kind == kind.kind and T.join(to, kind) is not None:
            return to
        self.error(f"Cannot cast from '{kind}' to '{to}'", node.span)
        return None

    # -- members
    def x_Member(self, node: A.Member) -> T.Type | None:
        operand = node.operand
        if isinstance(operand, A.Name) and operand.name == "args":
            return self.argument(node, operand)
        kind = self.expr(operand)
        if kind is None:
            return None
        if kind.kind in ("tuple", "record"):
            return self.part(node, kind)
        struct = self.struct_of(kind)
        if struct is None:
            hint = "cast it first: ((struct NAME *)x)->field" if kind.kind in ("int", "ptr") else ""
            self.error(f"Can not access field '{node.name}' on expression of type '{kind}'", node.span, hint)
            return None
        member = struct.member(node.name)
        if member is None:
            self.no_field(str(struct), node, list(struct.names()))
            return None
        if member.bit_size:
            inner = T.from_ctype(member.type)
            return T.integer(8, inner.signed) if inner.kind == "int" else inner
        space = kind.space or "kernel"
        return T.from_ctype(member.type, space)

    def no_field(self, struct: str, node: A.Member, names: list[str]) -> None:
        near = nearest(node.name, names)
        hint = (
            f"did you mean {' or '.join(near)}?"
            if near
            else f"there are {', '.join(names[:12])}{' ...' if len(names) > 12 else ''}"
            if names
            else ""
        )
        self.error(f"Struct/union of type '{struct}' does not contain a field named '{node.name}'", node.name_span, hint)

    def no_args(self, node: A.Name) -> None:
        hint = "use arg0, arg1, ..." if self.view.positional else "this kind of probe has no arguments"
        if self.view.positional and self.catalogue.btf is None:
            hint += " (argument names need the kernel's BTF, which is missing here)"
        self.error(f"The args builtin can not be used with '{self.kind}' probes here: no argument names are known", node.span, hint)

    def argument(self, node: A.Member, operand: A.Name) -> T.Type | None:
        arguments = self.view.args
        if not arguments:
            self.no_args(operand)
            return None
        found = next((one for one in arguments if one.name == node.name), None)
        if found is None:
            self.no_field(f"args of {self.group.plan.probes[0].text}", node, [one.name for one in arguments])
            return None
        if found.data_loc:
            inner = found.type.strip()
            if isinstance(inner, Array):
                element = T.from_ctype(Array(inner.element, 1))
                return T.string(self.max_strlen) if element.kind == "string" else T.pointer(inner.element, "kernel")
            return T.string(self.max_strlen)
        kind = T.from_ctype(found.type, self.view.space)
        if kind.kind in ("struct", "array", "string"):
            return kind.replace(space="ctx")
        return kind

    def part(self, node: A.Member, kind: T.Type) -> T.Type | None:
        if kind.kind == "record" and node.name in kind.names:
            return kind.parts[kind.names.index(node.name)]
        if not node.name.isdecimal():
            self.error(
                f"Can not access field '{node.name}' on expression of type '{kind}'", node.name_span, "the parts of a tuple are .0, .1, ..."
            )
            return None
        if int(node.name) >= len(kind.parts):
            self.error(f"Invalid tuple index: {node.name}. Found {len(kind.parts)} elements in tuple.", node.name_span)
            return None
        return kind.parts[int(node.name)]

    def x_Index(self, node: A.Index) -> T.Type | None:
        kind, index = self.expr(node.operand), self.number(node.index, "An index")
        if kind is None or index is None:
            return None
        constant = self.constants.get(id(node.index))
        if kind.kind == "array":
            if isinstance(constant, int) and kind.count and not 0 <= constant < kind.count:
                self.error(f"the index {constant} is out of bounds for array of size {kind.count}", node.index.span)
                return None
            return kind.parts[0]
        if kind.kind == "tuple":
            if not isinstance(constant, int) or not 0 <= constant < len(kind.parts):
                self.error("a tuple needs a constant index within its size", node.index.span)
                return None
            return kind.parts[constant]
        if kind.kind == "string":
            return T.integer(1)
        if kind.kind == "ptr":
            return self.dereference(kind, node.span)
        self.error(f"The array index operator [] can not be used on expression of type '{kind}'", node.span)
        return None


def _cut(value: int, kind: T.Type) -> int:
    if kind.kind == "bool":
        return int(value != 0)
    value &= (1 << (kind.size * 8)) - 1
    return value - (1 << (kind.size * 8)) if kind.signed and value >> (kind.size * 8 - 1) else value
