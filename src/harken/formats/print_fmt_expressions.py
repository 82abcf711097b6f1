"""C expressions of print formats as Python expressions with C's arithmetic.

Wrapping to the C type happens only where it can matter, so that ``REC->flags & 1`` costs what it says.
"""

from __future__ import annotations

import struct

from ..base.ctype import Array, Int, Ptr, Struct
from . import print_fmt_helpers as helpers
from .print_fmt_types import TypeCoder
from .print_fmt_values import CODES, Unsupported, Value, compare, compute, constant, divide, modulo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .event_format import FormatField
    from .print_fmt_parse import Tree

__all__ = ("ExpressionCoder",)


class ExpressionCoder(TypeCoder):
    """Names, fields, operators, texts."""

    def value(self, tree: Tree) -> Value:
        self.nesting += 1
        if self.nesting > 200:
            raise Unsupported("an expression nested too deep")
        try:
            return self.counted(getattr(self, "on_" + tree[0])(tree))
        finally:
            self.nesting -= 1

    def integer(self, tree: Tree) -> Value:
        return self.number(self.value(tree))

    def on_num(self, tree: Tree) -> Value:
        return constant(tree[1], tree[2], tree[3])

    def on_str(self, tree: Tree) -> Value:
        self.spend(len(tree[1]))
        return Value(repr(tree[1]), kind="str", layout=tree[1])

    def on_name(self, tree: Tree) -> Value:
        name = tree[1]
        if name in self.locals:
            found = self.locals[name]
            self.spend(len(found.code) if found.kind == "str" else 0)
            return found
        if name in ("true", "false", "NULL"):
            return constant(int(name == "true"), 8 if name == "NULL" else 4, name != "NULL")
        return self.unresolved(name)

    def unresolved(self, name: str) -> Value:
        """An enumerator or variable of the kernel."""
        found = self.env.constant(name) if self.env.constant else None
        if found is None:
            from .print_fmt_names import ENUMERATORS

            found = ENUMERATORS.get(name)
        if found is None:
            raise Unsupported(f"{name} is a name of the kernel's source whose value is not known")
        return constant(found, 8 if not -(1 << 31) <= found < 1 << 31 else 4, found < 1 << 31)

    def on_field(self, tree: Tree) -> Value:
        field = self.field(tree[1])
        if field.data_loc or field.rel_loc:
            return self.dynamic(field)
        if field.array or isinstance(field.ctype, (Array, Struct)) or field.size not in (1, 2, 4, 8):
            size, signed = self.element(field.ctype, field.size, field.signed)
            if not field.size:
                return Value(f"s+{field.offset}", size, signed, "mem", end="e", layout=field)
            return Value(f"s+{field.offset}", size, signed, "mem", end=f"s+{field.offset + field.size}", layout=field)
        pointer = isinstance(field.ctype.strip(), Ptr)
        signed = field.signed and not pointer
        code = self.slot(field.offset, CODES[field.size, signed])
        return Value(code, field.size, signed, pointer=pointer, layout=field)

    def location(self, field: FormatField) -> str:
        return self.slot(field.offset, CODES[field.size if field.size in (2, 4) else 4, False])

    def dynamic(self, field: FormatField) -> Value:
        """The memory that a ``__data_loc`` or ``__rel_loc`` field points to."""
        code = self.location(field)
        base = f"s+{field.offset + field.size}+" if field.rel_loc else "s+"
        size, signed = self.element(field.ctype, 1, field.signed)
        start = f"{base}({code}&65535)"
        end = f"min({start}+({code}>>16), e)"
        return Value(start, size, signed, "mem", end=end, layout=field)

    def length(self, field: FormatField) -> Value:
        return Value(f"({self.location(field)}>>16)", 4, False)

    def on_type(self, tree: Tree) -> Value:
        raise Unsupported("a type where a value is needed")

    def on_list(self, tree: Tree) -> Value:
        return Value("", kind="table", layout=tree[1])

    def on_cast(self, tree: Tree) -> Value:
        words, inner = tree[1], self.value(tree[2])
        if "*" in words:
            target = words[: len(words) - 1 - words[::-1].index("*")]
            if inner.kind == "mem":
                try:
                    size, signed, _ = self.type_of(target) if any(w != "const" for w in target) else (1, False, False)
                except Unsupported:
                    size, signed = 1, False
                return Value(inner.code, size, signed, "mem", end=inner.end, layout=inner.layout)
            if inner.kind == "str":
                return inner
            pointer = self.convert(inner, self.env.long_size, False)
            return Value(
                pointer.code, pointer.size, False, const=pointer.const, pointer=True, layout=inner.layout, step=self.pointee(target)
            )
        if "void" in words:
            return inner
        size, signed, _ = self.type_of(words)
        if inner.kind == "str":
            return inner
        if words[-1] in ("bool", "_Bool"):
            return self.truth(inner)
        return self.convert(inner, size, signed)

    def pointee(self, words: tuple[str, ...]) -> int:
        """The size of a pointer's target where arithmetic needs it; a ``struct page`` has 64 bytes on every 64-bit kernel."""
        if words[-2:] == ("struct", "page"):
            found = self.env.struct("struct page") if self.env.struct else None
            return found.size if found is not None else 64
        try:
            return max(1, self.type_of(words)[0]) if words and words[-1] != "void" else 1
        except Unsupported:
            return 1

    def truth(self, value: Value) -> Value:
        value = self.number(value)
        if value.const is not None:
            return constant(int(bool(value.const)), 1, False)
        return Value(f"(1 if {value.code} else 0)", 1, False)

    def promoted(self, value: Value) -> Value:
        return self.convert(value, 4, True) if value.size < 4 else value

    def on_unary(self, tree: Tree) -> Value:
        operator = tree[1]
        if operator == "&":
            return self.address(tree[2])
        inner = self.value(tree[2])
        if operator == "*":
            if inner.kind == "mem":
                return self.load(inner, "0")
            raise Unsupported("a pointer of the kernel is followed")
        inner = self.number(inner)
        if operator == "!":
            if inner.const is not None:
                return constant(int(not inner.const), 4, True)
            return Value(f"(0 if {inner.code} else 1)", 4, True)
        inner = self.promoted(inner)
        if operator == "+":
            return inner
        if inner.const is not None:
            return constant(-inner.const if operator == "-" else ~inner.const, inner.size, inner.signed)
        if operator == "~" and inner.signed:
            return Value(f"(~{inner.code})", inner.size, True)
        return Value(self.fold(f"{operator}{inner.code}", inner.size, inner.signed), inner.size, inner.signed)

    def address(self, tree: Tree) -> Value:
        if tree[0] == "field":
            field = self.field(tree[1])
            if field.data_loc or field.rel_loc:
                return self.dynamic(field)
            size, signed = (field.size, field.signed) if field.size in (1, 2, 4, 8) else self.element(field.ctype, 1, field.signed)
            return Value(f"s+{field.offset}", size, signed, "mem", end=f"s+{field.offset + field.size}", layout=field)
        if tree[0] == "index":
            array, index = self.value(tree[1]), self.integer(tree[2])
            if array.kind == "mem":
                return Value(
                    f"{array.code}+({index.code})*{array.size}", array.size, array.signed, "mem", end=array.end, layout=array.layout
                )
        inner = self.value(tree)
        if inner.kind == "mem":
            return inner
        raise Unsupported("an address is taken")

    def load(self, memory: Value, index: str) -> Value:
        """One element of memory in the record; outside of it, 0."""
        size, signed = memory.size, memory.signed
        if size not in (1, 2, 4, 8):
            raise Unsupported(f"an element of {size} bytes is read")
        start = f"{memory.code}+({index})*{size}" if index != "0" else memory.code
        name = "little" if self.order == "<" else "big"
        self.names["_int"] = int.from_bytes
        sign = ", signed=True" if signed else ""
        return Value(f'_int(b[_p:min(e, _p+{size})] if (_p := {start}) >= s else b"", "{name}"{sign})', size, signed)

    def on_index(self, tree: Tree) -> Value:
        array = self.value(tree[1])
        index = self.integer(tree[2])
        if array.kind == "table":
            items, longest = [], 0
            for item in array.layout:
                items.append(self.value(item))
                if isinstance(items[-1].layout, str):
                    longest = max(longest, len(items[-1].layout))
                    self.spend(-len(items[-1].layout))
            self.spend(longest)  # one of the texts is in the whole
            if all(item.kind == "str" for item in items):
                table = self.keep({i: item.layout for i, item in enumerate(items)})
                return Value(f'{table}.get({index.code}, "")', kind="str")
            table = self.keep({i: item.const or 0 for i, item in enumerate(items)})
            return Value(f"{table}.get({index.code}, 0)", 4, True)
        if array.kind == "str":
            return Value(f'({array.code}+"\\0")[:1].encode("utf-8", "surrogateescape")[0]', 1, True)
        if array.kind != "mem":
            raise Unsupported("a pointer of the kernel is followed")
        field = array.layout
        if (
            index.const is not None
            and array.code == f"s+{getattr(field, 'offset', -1)}"
            and index.const >= 0
            and (index.const + 1) * array.size <= field.size
            and array.size in (1, 2, 4, 8)
        ):
            offset = field.offset + index.const * array.size
            if not any(start < offset + array.size and offset < start + struct.calcsize("=" + code) for start, code in self.slots):
                return Value(self.slot(offset, CODES[array.size, array.signed]), array.size, array.signed)
            if (offset, CODES[array.size, array.signed]) in self.slots:
                return Value(self.slots[offset, CODES[array.size, array.signed]], array.size, array.signed)
        return self.load(array, index.code)

    def on_member(self, tree: Tree) -> Value:
        base = self.value(tree[1])
        layout = base.layout
        if base.kind != "struct" or layout is None:
            raise Unsupported(f"member {tree[2]} of something that is not in the record")
        member = layout.member(tree[2])
        if member is None:
            raise Unsupported(f"{layout} has no member {tree[2]}")
        bits = member.bit_size or member.type.size * 8
        kind = member.type.strip()
        signed = isinstance(kind, Int) and kind.signed
        shift = member.bit_offset if self.order == "<" else 8 * layout.size - member.bit_offset - bits
        code = f"({base.code} >> {shift} & {(1 << bits) - 1:#x})"
        size = max(1, member.type.size)
        return Value(code, size, signed and not member.bit_size) if not signed else self.convert(Value(code, size, False), size, True)

    _COMPARE = frozenset(("==", "!=", "<", ">", "<=", ">="))

    def on_binary(self, tree: Tree) -> Value:
        operator, left, right = tree[1], self.value(tree[2]), self.value(tree[3])
        if operator in ("&&", "||"):
            left, right = self.number(left), self.number(right)
            word = "and" if operator == "&&" else "or"
            if left.const is not None and right.const is not None:
                truth = left.const and right.const if word == "and" else left.const or right.const
                return constant(int(bool(truth)), 4, True)
            return Value(f"(1 if {left.code} {word} {right.code} else 0)", 4, True)
        if left.kind == "mem" and operator in ("+", "-"):
            offset = self.number(right)
            return Value(
                f"{left.code}{operator}({offset.code})*{left.size}", left.size, left.signed, "mem", end=left.end, layout=left.layout
            )
        if left.pointer and left.step > 1 and operator in ("+", "-"):
            right = self.arithmetic("*", self.convert(right, left.size, False), constant(left.step, left.size, False))
        left, right = self.promoted(self.number(left)), self.promoted(self.number(right))
        if operator in ("<<", ">>"):
            return self.shift(operator, left, right)
        size = max(left.size, right.size)
        signed = not any(not side.signed and side.size == size for side in (left, right))
        left, right = self.convert(left, size, signed), self.convert(right, size, signed)
        if operator in self._COMPARE:
            if left.const is not None and right.const is not None:
                return constant(compare(operator, left.const, right.const), 4, True)
            return Value(f"(1 if {left.code} {operator} {right.code} else 0)", 4, True)
        return self.arithmetic(operator, left, right)

    def arithmetic(self, operator: str, left: Value, right: Value) -> Value:
        size, signed = left.size, left.signed
        if left.const is not None and right.const is not None:
            return constant(compute(operator, left.const, right.const), size, signed)
        code = f"({left.code} {operator} {right.code})"
        if operator in "&|^":
            return Value(code, size, signed)
        if operator in "/%":
            self.names["_div"] = divide
            self.names["_mod"] = modulo
            if right.const and right.const > 0 and not signed:
                return Value(f"({left.code} {'//' if operator == '/' else '%'} {right.code})", size, signed)
            return Value(f"{'_div' if operator == '/' else '_mod'}({left.code}, {right.code})", size, signed)
        return Value(self.fold(code, size, signed), size, signed)

    def shift(self, operator: str, left: Value, right: Value) -> Value:
        """A shift by too much is undefined in C; here as the x86 does it, modulo the width."""
        width = 8 * left.size
        if right.const is not None:
            count = str(right.const % width) if not 0 <= right.const < width else str(right.const)
        else:
            count = f"({right.code} & {width - 1})"
        if left.const is not None and right.const is not None:
            by = right.const % width
            return constant(left.const << by if operator == "<<" else left.const >> by, left.size, left.signed)
        if operator == ">>":
            return Value(f"({left.code} >> {count})", left.size, left.signed)
        return Value(self.fold(f"{left.code} << {count}", left.size, left.signed), left.size, left.signed)

    def on_cond(self, tree: Tree) -> Value:
        test, then, other = self.value(tree[1]), self.value(tree[2]), self.value(tree[3])
        test = self.number(test)
        if "str" in (then.kind, other.kind):
            if test.const is not None:
                return self.text(then if test.const else other)
            return Value(f"({self.text(then).code} if {test.code} else {self.text(other).code})", kind="str")
        if "mem" in (then.kind, other.kind) and then.kind == other.kind:
            if test.const is not None:
                return then if test.const else other
            return Value(
                f"({then.code} if {test.code} else {other.code})",
                then.size,
                then.signed,
                "mem",
                end=f"({then.end} if {test.code} else {other.end})",
                layout=then.layout,
            )
        then, other = self.promoted(self.number(then)), self.promoted(self.number(other))
        size = max(then.size, other.size)
        signed = not any(not side.signed and side.size == size for side in (then, other))
        then, other = self.convert(then, size, signed), self.convert(other, size, signed)
        if test.const is not None:
            return then if test.const else other
        return Value(f"({then.code} if {test.code} else {other.code})", size, signed)

    # ---- texts

    def string(self, tree: Tree) -> Value:
        """An argument of ``%s``."""
        return self.text(self.value(tree))

    def text(self, value: Value) -> Value:
        """A value where ``%s`` wants a ``char *``."""
        if value.kind == "str":
            return value
        if value.kind == "mem":
            return Value(f"T[b[{value.code}:{value.end}]]", kind="str")
        value = self.number(value)
        if value.const == 0:
            return Value("'(null)'", kind="str")
        env = self.env

        def string_at(address: int) -> str:
            found = env.string(address) if env.string else None
            if found is None:
                return "(null)" if not address else f"(0x{address:x})"
            return found

        return Value(f"{self.keep(helpers.Memo(string_at))}[{self.convert(value, self.env.long_size, False).code}]", kind="str")
