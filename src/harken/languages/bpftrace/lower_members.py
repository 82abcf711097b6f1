"""What is inside of a value: tuples, casts, fields, arguments, elements."""

from __future__ import annotations

from ...base.ctype import Struct
from ...compiler.builtins import types as T
from ...compiler.builtins.code import Val
from ...compiler.ir import I32, I64, Const, FieldRef, Value, int_type
from . import ast as A
from .lower_maps import MapCode

__all__ = ("MemberCode",)


class MemberCode(MapCode):
    """Code that reads parts of values."""

    def x_Tuple(self, node: A.Tuple | A.RecordLit) -> Val:
        kind = self.types[id(node)]
        offsets, _ = T.layout(kind.parts)

        def fill(to: Value, base: int) -> None:
            self.code.zero_gaps(kind.parts, to, base)
            for item, part, offset in zip(node.items, kind.parts, offsets):
                self.store_as(item, part, to, base + offset, part.kind != "string" or part.size <= 64)

        return Val(kind, fill=fill)

    x_RecordLit = x_Tuple

    def x_Cast(self, node: A.Cast) -> Val:
        value, kind = self.expr(node.operand), self.types[id(node)]
        code = self.code
        if T.is_scalar(kind):
            if T.is_scalar(value.type):
                if kind.kind == "ptr":
                    return Val(kind, code.i64(value))
                return Val(kind, code.convert(value, kind))
            if kind.kind == "ptr":
                memory = code.spill(value) if value.ir is None else value
                assert memory.ir is not None
                return Val(kind, code.b.to_int(memory.ir))
            memory = code.spill(value, True)
            assert memory.ir is not None
            return code.load(memory.ir, kind)
        if T.is_scalar(value.type):
            slot = code.b.alloca((max(8, kind.size) + 7) // 8 * 8, "cast")
            code.b.store(slot, code.i64(value))
            return Val(kind, slot)
        if value.type.kind == "string" and (value.ir is None or value.limit is not None or value.ir.space == "any"):
            value = code.spill(value, True)
        if kind.size > value.type.size and kind.kind != "string":
            slot = code.b.alloca((kind.size + 7) // 8 * 8, "cast")
            code.store(value, kind.replace(kind="buf"), slot)
            return Val(kind, slot)
        return Val(kind, value.ir, value.literal, value.fill, value.limit, value.padded)

    # -- members
    def x_Member(self, node: A.Member) -> Val:
        operand = node.operand
        if isinstance(operand, A.Name) and operand.name == "args":
            return self.argument(node)
        if isinstance(operand, A.Var):
            pair = self.body.pairs.get(self.group.variables[id(operand)])
            if pair is not None:
                return pair[int(node.name)]
        kind = self.types[id(operand)]
        if kind.kind in ("tuple", "record"):
            index = kind.names.index(node.name) if kind.kind == "record" and node.name in kind.names else int(node.name)
            return self.part(self.expr(operand), index)
        return self.member(self.expr(operand), node)

    def part(self, value: Val, index: int) -> Val:
        value = self.code.spill(value)
        assert value.ir is not None
        offsets, _ = T.layout(value.type.parts)
        return self.code.load(value.ir, value.type.parts[index], offsets[index])

    def place_of(self, value: Val) -> Value:
        """Where an aggregate lies."""
        placed = self.code.spill(value) if value.ir is None else value
        assert placed.ir is not None
        return placed.ir

    def member(self, value: Val, node: A.Member) -> Val:
        """A field of a struct that is pointed to or lies in memory."""
        code = self.code
        ctype = value.type.ctype
        struct = ctype.strip() if ctype is not None else None
        assert isinstance(struct, Struct)
        member = struct.member(node.name)
        assert member is not None
        if value.type.kind == "ptr":
            base = code.pointer(value, self.memory(value.type.space))
        else:
            base = self.place_of(value)
        if member.bit_size:
            return self.bit_field(
                base, struct, node.name, member.bit_offset, member.bit_size, member.type.strip().size, self.types[id(node)]
            )
        kind = T.from_ctype(member.type, value.type.space or "kernel")
        where = self.field(base, struct, node.name, member.bit_offset // 8)
        return code.load(where, kind) if T.is_scalar(kind) else Val(kind, where)

    def field(self, base: Value, struct: Struct, path: str, offset: int) -> Value:
        b = self.code.b
        if struct.name and base.space in ("kernel", "btf"):
            return b.field(base, FieldRef(struct.name, path, offset))
        return self.code.at(base, offset)

    def bit_field(self, base: Value, struct: Struct, name: str, bit: int, width: int, size: int, kind: T.Type) -> Val:
        b = self.code.b
        size = max(1, size)
        start = bit // (size * 8) * size
        shift = bit - start * 8
        if shift + width > size * 8 and size < 8:
            size, start = 8, bit // 8
            shift = bit - start * 8
        raw = b.resize(b.load(self.code.at(base, start), int_type(size)), I64, False)
        raw = b.binary("shl", raw, Const(64 - shift - width))
        return Val(kind, b.binary("ashr" if kind.signed else "lshr", raw, Const(64 - width)))

    def argument(self, node: A.Member) -> Val:
        """``args.name``."""
        b, code = self.code.b, self.code
        kind = self.types[id(node)]
        found = next(one for one in self.view.args if one.name == node.name)
        if self.group.context != "tracepoint":
            raw = Val(T.UINT64, self.register(("arg", found.offset)))
            return Val(kind, code.convert(raw, kind) if T.is_scalar(kind) else raw.ir)
        context = self.register(("ctx",))
        if found.data_loc:
            word = b.resize(b.load(context, I32, found.offset), I64, False)
            start = b.add(b.to_int(context), b.binary("and", word, Const(0xFFFF)))
            if kind.kind == "ptr":
                return Val(kind, start)
            return Val(kind, b.to_pointer(start, "kernel"))
        if T.is_scalar(kind):
            return code.load(context, kind, found.offset)
        return Val(kind, b.to_pointer(b.add(b.to_int(context), Const(found.offset)), "kernel"))

    def load_from(self, pointer: Val, kind: T.Type, offset: Value) -> Val:
        """What a pointer points to."""
        b, code = self.code.b, self.code
        space = pointer.type.space if pointer.type.kind == "ptr" else ""
        address = code.pointer(pointer, self.memory(space))
        if not (isinstance(offset, Const) and offset.value == 0):
            address = b.gep(address, offset)
        if kind.kind in ("struct", "array", "string"):
            return Val(kind, address)
        return code.load(address, kind)

    def x_Index(self, node: A.Index) -> Val:
        b, code = self.code.b, self.code
        operand = node.operand
        kind = self.types[id(operand)]
        element = self.types[id(node)]
        constant = self.constants.get(id(node.index))
        if kind.kind == "tuple":
            if isinstance(operand, A.Var):
                pair = self.body.pairs.get(self.group.variables[id(operand)])
                if pair is not None:
                    return pair[int(constant or 0)]
            return self.part(self.expr(operand), int(constant or 0))
        value = self.expr(operand)
        index = code.i64(self.expr(node.index))
        if kind.kind == "ptr":
            return self.load_from(value, element, self.scale(index, max(1, element.size)))
        value = code.spill(value) if value.ir is None or value.limit is not None else value
        assert value.ir is not None
        size = max(1, element.size)
        if isinstance(index, Const):
            return code.load(code.at(value.ir, index.value * size), element)
        count = kind.count if kind.kind == "array" else kind.size
        if not count or value.ir.space in ("kernel", "user"):
            if count:
                index = b.select(b.icmp("ult", index, Const(count)), index, Const(0))
            return code.load(b.gep(value.ir, self.scale(index, size)), element)

        def inside() -> Value:
            return code.i64(code.load(b.gep(value.ir, self.scale(index, size)), element))  # type: ignore[arg-type]

        if T.is_scalar(element):
            return Val(element, code.choose(b.icmp("ult", index, Const(count)), inside, lambda: Const(0)))
        bounded = b.select(b.icmp("ult", index, Const(count)), index, Const(0))
        return code.load(b.gep(value.ir, self.scale(bounded, size)), element)
