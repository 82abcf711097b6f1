"""The dialect of ``trace-cmd report``: libtraceevent's idea of C.

libtraceevent (1.7.1, of trace-cmd 3.1.6) evaluates print formats in unsigned 64 bits: fields are read without their sign, casts only cut,
enumerators that the kernel left unresolved are -1 in tables and an address of that symbol (mostly none, 0) elsewhere.  ``%p`` is glibc's.
What it cannot parse it prints as "[FAILED TO PARSE]" with raw fields; where harken can compile such a format it prints the text instead.

Events that libtraceevent's plugins print by themselves are in ``print_fmt_plugins``.
"""

from __future__ import annotations

import re

from ..base.ctype import Array, Struct
from . import print_fmt_helpers as helpers
from .print_fmt_code import Coder
from .print_fmt_printf import Printf, letters
from .print_fmt_values import Unsupported, Value, constant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .event_format import FormatField
    from .print_fmt_parse import Tree

__all__ = ("TepCoder", "TepPrintf")

_M64 = 0xFFFFFFFFFFFFFFFF

#: The enumerators that libtraceevent knows.
_FLAGS = {
    name: value
    for value, name in enumerate(
        "HI_SOFTIRQ TIMER_SOFTIRQ NET_TX_SOFTIRQ NET_RX_SOFTIRQ BLOCK_SOFTIRQ IRQ_POLL_SOFTIRQ TASKLET_SOFTIRQ SCHED_SOFTIRQ "
        "HRTIMER_SOFTIRQ RCU_SOFTIRQ".split()
    )
} | {"HRTIMER_NORESTART": 0, "HRTIMER_RESTART": 1}

_CASTS = {"u8": 1, "u16": 2, "u32": 4, "s8": 1, "s16": 2, "s32": 4, "char": 1, "short": 2, "int": 4}


def tep_flags(delimiter: str, table: Sequence[tuple[int, str]], form: str) -> helpers.Memo:
    """``__print_flags`` of libtraceevent: a value 0 prints the first name whose value is negative or unknown; other such names never match.

    ``form`` is the conversion ("%-8s"); it is applied to each name, and not to a number.
    """

    def make(value: int) -> str:
        parts: list[str] = []
        for mask, name in table:
            if not value and mask < 0:
                return delimiter.join(parts) + form % name
            if mask > 0 and value & mask == mask:
                parts.append(form % name)
                value &= ~mask
        if value:
            parts.append(f"0x{value & _M64:x}")
        return delimiter.join(parts)

    return helpers.Memo(make)


class TepCoder(Coder):
    """Trees to code with every integer an unsigned 64-bit one.

    ``form`` is the conversion of the text that is being compiled.
    """

    form = "%s"

    def number(self, value: Value) -> Value:
        if value.kind == "str":  # texts count as 0
            return constant(0, 8, False)
        field = value.layout
        if value.kind == "mem" and field is not None and not field.data_loc and not field.rel_loc:
            # an array reads as the number in its place
            if field.size not in (1, 2, 4, 8):
                return constant(0, 8, False)
            return self.load(Value(f"s+{field.offset}", field.size, False, "mem", end="e"), "0")
        return super().number(value)

    def on_num(self, tree: Tree) -> Value:
        if len(tree) > 4 and self.env.dialect == "trace-cmd-3.1":  # 'x' was read as the atom x, which is no number
            return constant(0, 8, False)
        return constant(tree[1], 8, False)

    def unresolved(self, name: str) -> Value:
        found = self.env.address(name) if self.env.address else None  # any name may be a symbol's: a variable is where it is
        return constant(found or 0, 8, False)

    def on_field(self, tree: Tree) -> Value:
        field = self.field(tree[1])
        whole = field.data_loc or field.rel_loc or field.array or isinstance(field.ctype, (Array, Struct))
        if whole or field.size not in (1, 2, 4, 8):
            return super().on_field(tree)
        return Value(self.slot(field.offset, {1: "B", 2: "H", 4: "I", 8: "Q"}[field.size]), 8, False, layout=field)

    def element(self, ctype: Any, size: int, signed: bool) -> tuple[int, bool]:
        return super().element(ctype, size, signed)[0], False

    def on_cast(self, tree: Tree) -> Value:
        words, inner = tree[1], self.value(tree[2])
        if "*" in words:
            return super().on_cast(tree) if inner.kind == "mem" else inner
        if inner.kind != "int":
            return inner
        names = words[1:] if words[0] == "unsigned" and len(words) > 1 else words
        size = _CASTS.get(" ".join(names), 8)
        if size == 8:
            return inner
        if inner.const is not None:
            return constant(inner.const & ((1 << 8 * size) - 1), 8, False)
        return Value(f"({inner.code} & {(1 << 8 * size) - 1:#x})", 8, False)

    def promoted(self, value: Value) -> Value:
        return self.convert(value, 8, False)

    def convert(self, value: Value, size: int, signed: bool) -> Value:
        if value.kind == "str":
            return constant(0, size, signed)
        return super().convert(value, size, signed)

    def truth(self, value: Value) -> Value:
        return self.number(value)

    def call_print_flags(self, arguments: list[Tree]) -> Value:
        delimiter = self.value(arguments[1])
        separator = delimiter.layout if delimiter.kind == "str" and isinstance(delimiter.layout, str) else ""
        table = self.pairs(arguments[2:])
        self.spend(sum([len(name) + len(separator) + len(self.form % "") for _, name in table]))
        memo = self.keep(tep_flags(separator, table, self.form))
        return Value(f"{memo}[{self.convert(self.integer(arguments[0]), 8, False).code}]", kind="str")

    call_print_flags_u64 = call_print_flags

    def call_print_symbolic(self, arguments: list[Tree]) -> Value:
        table = [(value & _M64, self.form % name) for value, name in self.pairs(arguments[1:])]
        self.spend(max([len(name) for _, name in table], default=0))
        memo = self.keep(helpers.symbols(table))
        return Value(f"{memo}[{self.convert(self.integer(arguments[0]), 8, False).code}]", kind="str")

    call_print_symbolic_u64 = call_print_symbolic

    def entry(self, tree: Tree) -> int:
        while tree[0] == "cast":
            tree = tree[2]
        if tree[0] == "name":
            return _FLAGS.get(tree[1], -1)
        value = self.integer(tree)
        if value.const is None:
            raise Unsupported("a table entry whose value is not constant")
        number = value.const & _M64
        return number - (1 << 64) if number >> 63 else number

    def string(self, tree: Tree) -> Value:
        """``print_str_arg``: casts, numbers and operators other than ``?:`` print nothing."""
        if tree[0] == "cond":
            test, then, other = self.number(self.value(tree[1])), self.string(tree[2]), self.string(tree[3])
            return Value(f"({then.code} if {test.code} else {other.code})", kind="str")
        if tree[0] in ("cast", "unary", "binary", "index"):
            return Value('""', kind="str")
        if tree[0] in ("name", "num"):
            return Value(repr(self.form % str(tree[1])), kind="str")
        value = self.value(tree)
        if value.kind == "str":
            tables = tree[0] == "call" and tree[1].startswith(("__print_flags", "__print_symbolic"))
            return value if tables or self.form == "%s" else Value(f"({self.form!r} % {value.code})", kind="str")
        field: FormatField | None = value.layout
        if value.kind == "mem":
            code = f"T[b[{value.code}:{value.end}]]"
        elif field is None:
            return Value('""', kind="str")
        elif field.size != self.env.long_size:
            code = f"T[b[s+{field.offset}:s+{field.offset + field.size}]]"
        else:
            env = self.env

            def string_at(address: int) -> str:
                found = env.string(address) if env.string else None
                return f"{address:x}" if found is None else found

            return Value(f"{self.keep(helpers.Memo(string_at))}[{value.code}]", kind="str")
        return Value(code if self.form == "%s" else f"({self.form!r} % {code})", kind="str")

    def on_cond(self, tree: Tree) -> Value:
        """As a number; texts count as 0.  Where a text is wanted, ``string`` chooses."""
        test, then, other = (self.convert(self.number(self.value(part)), 8, False) for part in tree[1:4])
        if test.const is not None:
            return then if test.const else other
        return Value(f"({then.code} if {test.code} else {other.code})", 8, False)

    def call_print_array(self, arguments: list[Tree]) -> Value:
        value = super().call_print_array(arguments)
        if self.env.dialect == "trace-cmd-3.1":
            value.code = value.code.replace("_h.int_array(", "_h.int_array_old(", 1)
        return value

    def call_get_cpumask(self, arguments: list[Tree]) -> Value:
        memory = self.dynamic(self.named_field(arguments[0]))
        return Value(f"_h.bit_list(b[{memory.code}:{memory.end}], {self.order!r}, {self.env.long_size})", kind="str")

    def call_jiffies_to_msecs(self, arguments: list[Tree]) -> Value:
        return self.integer(arguments[0])  # the plugin's function returns its argument


class TepPrintf(Printf):
    """glibc's conversions in place of the kernel's."""

    def length(self, text: str) -> int:
        return {"hh": 1, "h": 2, "": 4}.get(text, 8)

    def hexadecimal(self, kind: str, head: str, flags: str, value: Value, values: list[str]) -> str:
        """In C, ``%#x`` of 0 has no prefix."""
        if "#" not in flags or value.const:
            values.append(value.code)
            return head + kind
        bare = head.replace("#", "")
        values.append(f'("{head}{kind}" % _v if (_v := {value.code}) else "{bare}{kind}" % 0)')
        return "%s"

    def conversion(self, match: re.Match[str], rest: list[Tree], values: list[str]) -> str:
        if match.group("kind") == "c" and self.coder.env.dialect == "trace-cmd-3.1":  # not known before libtraceevent 1.8
            return ">c<"
        return super().conversion(match, rest, values)

    def known(self, match: re.Match[str], star_tree: Tree | None, limit_tree: Tree | None, tree: Tree, values: list[str]) -> str:
        if match.group("kind") != "s" or star_tree is not None:
            return super().known(match, star_tree, limit_tree, tree, values)
        assert isinstance(self.coder, TepCoder)
        head = "%" + "".join(c for c in match.group("flags") if c == "-") + (match.group("width") or "")
        self.coder.spend(letters(match.group("width") or "", None))
        try:
            if limit_tree is not None:
                limit = self.coder.convert(self.coder.integer(limit_tree), 4, True)
                values.append(f"{self.coder.string(tree).code}[:max(0, {limit.code})]")
                return head + "s"
            self.coder.form = head + self.shortened(match)
            values.append(self.coder.string(tree).code)
            return "%s"
        finally:
            self.coder.form = "%s"

    def pointer(self, form: str, flags: str, width: str, star: Value | None, tree: Tree, values: list[str]) -> str:
        if form[1:2] in ("", "F", "f", "S", "s", "M", "m", "I", "i", "U", "h"):
            return super().pointer(form, flags, width, star, tree, values)
        return self.plain(flags, width, tree, values) + form[1:].replace("%", "%%")

    def address(self, letter: str, code: str, tree: Tree) -> str:
        text = super().address(letter, code, tree)
        return f'{text}.replace("(einval)", "")' if code[:1] == "S" else text

    def argument(self, tree: Tree, size: int, signed: bool) -> Value:
        value = self.coder.number(self.coder.value(tree))
        return self.coder.convert(value, size, signed)

    def symbol(self, letter: str, tree: Tree) -> str:
        coder = self.coder
        env = coder.env
        with_offset = letter in ("S", "F")

        def text(address: int) -> str:
            found = env.symbol(address) if env.symbol else None
            if found is None:
                return f"0x{address:x}"
            name = found[0].partition(" [")[0]
            return f"{name}+0x{address - found[1]:x}" if with_offset else name

        return f"{coder.keep(helpers.Memo(text))}[{coder.number(coder.value(tree)).code}]"

    def plain(self, flags: str, width: str, tree: Tree, values: list[str]) -> str:
        value = self.coder.number(self.coder.value(tree))
        values.append(f'("0x%x" % _v if (_v := {value.code}) else "(nil)")')
        return "%s"
