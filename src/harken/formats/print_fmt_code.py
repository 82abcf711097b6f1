"""From the trees of ``print_fmt_parse`` to Python source with C's arithmetic.

``Coder`` turns each tree into a ``Value``: Python code of an integer in the range of its C type, of a text, or of memory inside the
record.  Fields of the fixed part are unpacked by one ``struct`` call per record into local variables ``f0, f1, ...``; wrapping to the C
type happens only where it can matter, so that ``REC->flags & 1`` costs what it says.

The names that generated code uses: ``b`` the buffer, ``s`` and ``e`` start and end of the record, ``f*`` fields, ``k*`` constants of the
event (memos, tables).
"""

from __future__ import annotations

import struct

from ..base.ctype import Array, CType, Enum, Int, Ptr, Struct
from ..base.errors import FormatError
from . import print_fmt_helpers as helpers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .event_format import EventFormat, FormatField
    from .print_fmt import Env
    from .print_fmt_parse import Tree

__all__ = ("Coder", "Value", "Unsupported")

_CODES = {
    (1, False): "B",
    (1, True): "b",
    (2, False): "H",
    (2, True): "h",
    (4, False): "I",
    (4, True): "i",
    (8, False): "Q",
    (8, True): "q",
}

#: Sizes of the type names that print formats cast to or take the size of; ``long`` and pointers depend on the machine.
_SIZES = {
    "char": (1, True),
    "bool": (1, False),
    "_Bool": (1, False),
    "u8": (1, False),
    "s8": (1, True),
    "short": (2, True),
    "u16": (2, False),
    "s16": (2, True),
    "__be16": (2, False),
    "__le16": (2, False),
    "int": (4, True),
    "uint": (4, False),
    "u32": (4, False),
    "s32": (4, True),
    "__be32": (4, False),
    "__le32": (4, False),
    "unsigned": (4, False),
    "gfp_t": (4, False),
    "pid_t": (4, True),
    "uid_t": (4, False),
    "dev_t": (4, False),
    "fmode_t": (4, False),
    "umode_t": (2, False),
    "__kernel_rwf_t": (4, True),
    "blk_opf_t": (4, False),
    "u64": (8, False),
    "s64": (8, True),
    "__be64": (8, False),
    "__le64": (8, False),
    "loff_t": (8, True),
    "sector_t": (8, False),
    "dma_addr_t": (8, False),
    "phys_addr_t": (8, False),
    "resource_size_t": (8, False),
    "ktime_t": (8, True),
}
for _width in (8, 16, 32, 64):
    _SIZES[f"int{_width}_t"] = _SIZES[f"__s{_width}"] = (_width // 8, True)
    _SIZES[f"uint{_width}_t"] = _SIZES[f"__u{_width}"] = (_width // 8, False)

_HYPERCALLS = {  # include/xen/interface/xen.h
    number: f"({name})"
    for number, name in enumerate(
        "set_trap_table mmu_update set_gdt stack_switch set_callbacks fpu_taskswitch sched_op_compat platform_op set_debugreg get_debugreg "
        "update_descriptor - memory_op multicall update_va_mapping set_timer_op event_channel_op_compat xen_version console_io "
        "physdev_op_compat grant_table_op vm_assist update_va_mapping_otherdomain iret vcpu_op set_segment_base mmuext_op acm_op nmi_op "
        "sched_op callback_op xenoprof_op event_channel_op physdev_op hvm_op".split()
    )
    if name != "-"
} | {48 + number: f"(arch_{number})" for number in range(8)}

#: The functions of the kernel that print formats call by name: the texts they give.
_ENUM_FUNCTIONS = {
    "mc_event_error_type": ({0: "Corrected", 1: "Uncorrected", 2: "Deferred", 3: "Fatal"}, "Info"),  # include/linux/edac.h
    "xen_hypercall_name": (_HYPERCALLS, ""),  # arch/x86/xen/trace.c
}


class Unsupported(FormatError):
    """The print format uses something that cannot be computed outside of the kernel."""

    def __init__(self, problem: str) -> None:
        super().__init__("print fmt", problem)
        self.problem = problem


class Value:
    """Code and what it means.

    ``kind`` is "int", "str", "mem" (``code`` is the start in the buffer, ``end`` its end; ``size``/``signed`` of one element),
    "table" (a local array of trees) or
    "struct" (an integer with the layout ``layout``).  ``const`` is the value where it is known.
    """

    __slots__ = ("code", "const", "end", "kind", "layout", "pointer", "signed", "size", "step")

    def __init__(
        self,
        code: str,
        size: int = 8,
        signed: bool = False,
        kind: str = "int",
        const: int | None = None,
        end: str = "",
        layout: Any = None,
        pointer: bool = False,
        step: int = 1,
    ) -> None:
        self.step = step  # of pointer arithmetic: the size of what a pointer points to
        self.code, self.size, self.signed, self.kind = code, size, signed, kind
        self.const, self.end, self.layout, self.pointer = const, end, layout, pointer


def constant(value: int, size: int, signed: bool) -> Value:
    value = wrapped(value, size, signed)
    return Value(str(value) if value >= 0 else f"({value})", size, signed, const=value)


def wrapped(value: int, size: int, signed: bool) -> int:
    value &= (1 << 8 * size) - 1
    return value - (1 << 8 * size) if signed and value >> (8 * size - 1) else value


class Coder:
    """Compiles the arguments of one event.  A subclass may have another idea of C (``print_fmt_tep``)."""

    def __init__(self, event: EventFormat, env: Env) -> None:
        self.event, self.env = event, env
        self.order = env.order
        self.names: dict[str, Any] = {"T": helpers.Texts(), "_h": helpers}
        self.slots: dict[tuple[int, str], str] = {}  # (offset, struct code) -> variable
        self.locals: dict[str, Value] = {}
        self.nesting = 0
        self.unknown: list[str] = []  # what could not be computed and is shown as "?"

    # ---- what generated code refers to

    def keep(self, thing: object) -> str:
        name = f"k{len(self.names)}"
        self.names[name] = thing
        return name

    def slot(self, offset: int, code: str) -> str:
        return self.slots.setdefault((offset, code), f"f{len(self.slots)}")

    def unpacker(self) -> tuple[str, tuple[str, ...], int]:
        """The struct format that fills the slots, their variables in its order, and the bytes that it needs."""
        text, position, variables = self.order, 0, []
        for (offset, code), variable in sorted(self.slots.items(), key=lambda item: item[0]):
            size = struct.calcsize("=" + code)
            if offset < position:
                raise Unsupported("fields overlap")
            text += (f"{offset - position}x" if offset > position else "") + code
            position = offset + size
            variables.append(variable)
        return text, tuple(variables), position

    def field(self, name: str) -> FormatField:
        found = self.event.field(name)
        if found is None:
            raise Unsupported(f"the format has no field {name}")
        return found

    # ---- types

    def type_of(self, words: tuple[str, ...]) -> tuple[int, bool, bool]:
        """(size, signed, is a pointer) of a type."""
        if "*" in words:
            return self.env.long_size, False, True
        names = [w for w in words if w not in ("const", "volatile", "static", "__user", "__force", "__rcu", "__percpu")]
        if names[:1] in (["struct"], ["union"]):
            found = self.env.struct(" ".join(names)) if self.env.struct else None
            if found is None:
                raise Unsupported(f"the size of {' '.join(names)} is not known")
            return found.size, False, False
        if names[:1] == ["enum"]:
            return 4, False, False
        if "long" in names:
            size = 8 if names.count("long") > 1 else self.env.long_size
            return size, "unsigned" not in names, False
        if "unsigned" in names and len(names) > 1:
            return _SIZES.get(names[-1] if names[-1] != "unsigned" else names[0], (4, True))[0], False, False
        if names == ["signed"]:
            return 4, True, False
        if names in (["size_t"], ["uintptr_t"], ["ulong"], ["pgoff_t"]):
            return self.env.long_size, False, False
        if names in (["ssize_t"], ["ptrdiff_t"]):
            return self.env.long_size, True, False
        size, signed = _SIZES.get(names[-1] if names else "", (0, False))
        if not size:
            for field in self.event.fields:  # a typedef that one of the event's own fields has
                if field.type == " ".join(names) and not field.array:
                    return field.size, field.signed, False
            raise Unsupported(f"type {' '.join(words)} is not known")
        return size, signed, False

    def element(self, ctype: CType, size: int, signed: bool) -> tuple[int, bool]:
        """Size and sign of one element of an array field."""
        inner: CType = ctype
        while isinstance(inner, Array):
            inner = inner.element
        kind = inner.strip()
        if isinstance(kind, Ptr):
            return self.env.long_size, False
        if isinstance(kind, Int):
            if kind.name in ("long", "unsigned long"):
                return self.env.long_size, kind.signed
            return kind.size, kind.signed
        if isinstance(kind, Enum):
            return kind.size or 4, kind.signed
        return (inner.size or size or 1), signed

    def convert(self, value: Value, size: int, signed: bool) -> Value:
        """C's conversion of an integer to another integer type."""
        if value.kind != "int":
            value = self.number(value)
        if value.const is not None:
            return constant(value.const, size, signed)
        if value.size == size and value.signed == signed:
            return value
        fits = not value.signed and (size > value.size or (size == value.size and not signed))
        if fits or (value.signed and signed and size >= value.size):
            return Value(value.code, size, signed, pointer=value.pointer)
        code = self.fold(value.code, size, signed)
        return Value(code, size, signed, pointer=value.pointer)

    @staticmethod
    def fold(code: str, size: int, signed: bool) -> str:
        """Code that brings any integer into the range of a type."""
        mask = (1 << 8 * size) - 1
        if not signed:
            return f"({code} & {mask:#x})"
        half = 1 << (8 * size - 1)
        return f"((({code}) + {half:#x} & {mask:#x}) - {half:#x})"

    # ---- trees

    def value(self, tree: Tree) -> Value:
        self.nesting += 1
        if self.nesting > 200:
            raise Unsupported("an expression nested too deep")
        try:
            return getattr(self, "on_" + tree[0])(tree)  # type: ignore[no-any-return]
        finally:
            self.nesting -= 1

    def number(self, value: Value) -> Value:
        """A value as an integer."""
        if value.kind == "int" or value.kind == "struct":
            return value
        if value.kind == "mem":  # the address of something in the record: only whether it is there can be told
            return Value(f"({value.code})", self.env.long_size, False)
        raise Unsupported("a text where a number is needed")

    def integer(self, tree: Tree) -> Value:
        return self.number(self.value(tree))

    def on_num(self, tree: Tree) -> Value:
        return constant(tree[1], tree[2], tree[3])

    def on_str(self, tree: Tree) -> Value:
        return Value(repr(tree[1]), kind="str", layout=tree[1])

    def on_name(self, tree: Tree) -> Value:
        name = tree[1]
        if name in self.locals:
            return self.locals[name]
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
        code = self.slot(field.offset, _CODES[field.size, signed])
        return Value(code, field.size, signed, pointer=pointer, layout=field)

    def location(self, field: FormatField) -> str:
        return self.slot(field.offset, _CODES[field.size if field.size in (2, 4) else 4, False])

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
            items = [self.value(item) for item in array.layout]
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
                return Value(self.slot(offset, _CODES[array.size, array.signed]), array.size, array.signed)
            if (offset, _CODES[array.size, array.signed]) in self.slots:
                return Value(self.slots[offset, _CODES[array.size, array.signed]], array.size, array.signed)
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
                return constant(_compare(operator, left.const, right.const), 4, True)
            return Value(f"(1 if {left.code} {operator} {right.code} else 0)", 4, True)
        return self.arithmetic(operator, left, right)

    def arithmetic(self, operator: str, left: Value, right: Value) -> Value:
        size, signed = left.size, left.signed
        if left.const is not None and right.const is not None:
            return constant(_compute(operator, left.const, right.const), size, signed)
        code = f"({left.code} {operator} {right.code})"
        if operator in "&|^":
            return Value(code, size, signed)
        if operator in "/%":
            self.names["_div"] = _divide
            self.names["_mod"] = _modulo
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

    # ---- functions

    def on_call(self, tree: Tree) -> Value:
        name, arguments = tree[1], tree[2]
        known = getattr(self, "call_" + name.strip("_").replace("_rel_", "_"), None)
        if name in _ENUM_FUNCTIONS:
            table, default = _ENUM_FUNCTIONS[name]
            return Value(f"{self.keep(table)}.get({self.integer(arguments[0]).code}, {default!r})", kind="str")
        if known is None or not arguments:
            raise Unsupported(f"function {name} of the kernel")
        return known(arguments)  # type: ignore[no-any-return]

    def named_field(self, tree: Tree) -> FormatField:
        if tree[0] in ("name", "field"):
            return self.field(tree[1])
        raise Unsupported("the name of a field is missing")

    def call_get_str(self, arguments: list[Tree]) -> Value:
        return Value(self.text(self.dynamic(self.named_field(arguments[0]))).code, kind="str")

    def call_get_dynamic_array(self, arguments: list[Tree]) -> Value:
        return self.dynamic(self.named_field(arguments[0]))

    call_get_sockaddr = call_get_sockaddr_rel = call_get_buf = call_get_dynamic_array

    def call_get_dynamic_array_len(self, arguments: list[Tree]) -> Value:
        return self.length(self.named_field(arguments[0]))

    def call_get_bitmask(self, arguments: list[Tree]) -> Value:
        memory = self.dynamic(self.named_field(arguments[0]))
        return Value(f"_h.bitmask(b[{memory.code}:{memory.end}], {self.order!r}, {self.env.long_size})", kind="str")

    call_get_cpumask = call_get_bitmask

    def call_print_bitmask(self, arguments: list[Tree]) -> Value:
        memory = self.memory(arguments[0], self.integer(arguments[1]))
        return Value(f"_h.bitmask({memory}, {self.order!r}, {self.env.long_size})", kind="str")

    def pairs(self, arguments: list[Tree]) -> list[tuple[int, str]]:
        """The ``{ value, "name" }`` of flags and symbols."""
        found = []
        for item in arguments:
            if item[0] != "list" or len(item[1]) != 2:
                if item == ("list", []) or item[0] == "num":
                    continue
                raise Unsupported("a table entry that is not { value, name }")
            name = self.value(item[1][1])
            if name.kind != "str" or not isinstance(name.layout, str):
                if name.const == 0:  # { -1, NULL } ends a table
                    break
                raise Unsupported("a table entry without a name")
            try:
                found.append((self.entry(item[1][0]), name.layout))
            except Unsupported as error:  # a name that nobody knows never matches: the value is shown in hex
                self.unknown.append(error.problem)
        return found

    def entry(self, tree: Tree) -> int:
        value = self.integer(tree)
        if value.const is None:
            raise Unsupported("a table entry whose value is not constant")
        return value.const & 0xFFFFFFFFFFFFFFFF

    def call_print_flags(self, arguments: list[Tree]) -> Value:
        delimiter = self.value(arguments[1])
        separator = delimiter.layout if delimiter.kind == "str" and isinstance(delimiter.layout, str) else ""
        memo = self.keep(helpers.flags(separator, self.pairs(arguments[2:])))
        return Value(f"{memo}[{self.convert(self.integer(arguments[0]), 8, False).code}]", kind="str")

    call_print_flags_u64 = call_print_flags

    def call_print_symbolic(self, arguments: list[Tree]) -> Value:
        memo = self.keep(helpers.symbols(self.pairs(arguments[1:])))
        return Value(f"{memo}[{self.convert(self.integer(arguments[0]), 8, False).code}]", kind="str")

    call_print_symbolic_u64 = call_print_symbolic

    def memory(self, tree: Tree, length: Value | None = None) -> str:
        """Code of the bytes at an address, at most ``length`` of them, never beyond the record."""
        memory = self.value(tree)
        if memory.kind != "mem":
            raise Unsupported("memory that is not in the record")
        if length is None:
            return f"b[{memory.code}:{memory.end}]"
        if length.const is not None and length.const >= 0:
            return f"b[(_q := {memory.code}):min(_q+{length.const}, e)]"
        return f"b[(_q := {memory.code}):min(_q+max(0, {length.code}), e)]"

    def call_print_hex(self, arguments: list[Tree]) -> Value:
        return Value(f'_h.hex_bytes({self.memory(arguments[0], self.length_of(arguments))}, " ")', kind="str")

    def call_print_hex_str(self, arguments: list[Tree]) -> Value:
        return Value(f'_h.hex_bytes({self.memory(arguments[0], self.length_of(arguments))}, "")', kind="str")

    def length_of(self, arguments: list[Tree]) -> Value:
        return self.convert(self.integer(arguments[1]), 4, True)

    def call_print_array(self, arguments: list[Tree]) -> Value:
        count, size = self.convert(self.integer(arguments[1]), 4, True), self.integer(arguments[2])
        memory = self.value(arguments[0])
        if memory.kind != "mem":
            raise Unsupported("an array that is not in the record")
        return Value(f"_h.int_array(b[{memory.code}:e], {count.code}, {size.code}, {self.order!r})", kind="str")

    def call_print_dynamic_array(self, arguments: list[Tree]) -> Value:
        memory, size = self.dynamic(self.named_field(arguments[0])), self.integer(arguments[1])
        text = f"b[{memory.code}:{memory.end}]"
        return Value(f"_h.int_array((_q := {text}), len(_q) // max(1, {size.code}), {size.code}, {self.order!r})", kind="str")

    def call_print_ns_to_secs(self, arguments: list[Tree]) -> Value:
        value = self.convert(self.integer(arguments[0]), 8, False)
        return Value(f"({value.code} // 1000000000)", 8, False)

    def call_print_ns_without_secs(self, arguments: list[Tree]) -> Value:
        value = self.convert(self.integer(arguments[0]), 8, False)
        return Value(f"({value.code} % 1000000000)", 4, False)

    def call_builtin_expect(self, arguments: list[Tree]) -> Value:
        return self.value(arguments[0])

    def call_builtin_constant_p(self, arguments: list[Tree]) -> Value:
        return constant(0, 4, True)

    def call_sizeof(self, arguments: list[Tree]) -> Value:
        tree = arguments[0]
        size = self.env.long_size
        if tree[0] == "type":
            return constant(self.type_of(tree[1])[0], size, False)
        if tree[0] == "field":
            field = self.field(tree[1])
            return constant(field.size, size, False)
        if tree[0] == "name" and tree[1] not in self.locals:
            return constant(self.type_of((tree[1],))[0], size, False)
        value = self.value(tree)
        return constant(value.size, size, False)

    def call_pte_val(self, arguments: list[Tree]) -> Value:
        """The number in a page table entry (``pte_t`` and its like are structs of one long)."""
        value = self.value(arguments[0])
        if value.kind == "mem":
            value = self.load(Value(value.code, self.env.long_size, False, "mem", end=value.end), "0")
        return self.convert(self.number(value), self.env.long_size, False)

    call_pmd_val = call_pud_val = call_p4d_val = call_pgd_val = call_pte_val
    call_native_make_pte = call_native_make_pmd = call_native_make_pud = call_native_make_p4d = call_native_make_pgd = call_pte_val

    def call_jiffies_to_msecs(self, arguments: list[Tree]) -> Value:
        value = self.convert(self.integer(arguments[0]), self.env.long_size, False)
        hz = self.env.hz
        code = f"({value.code} * {1000 // hz})" if 1000 % hz == 0 else f"({value.code} * 1000 // {hz})"
        return self.convert(Value(code, 8, False), 4, False) if value.const is None else constant(value.const * 1000 // hz, 4, False)

    def call_jiffies_to_usecs(self, arguments: list[Tree]) -> Value:
        value = self.convert(self.integer(arguments[0]), self.env.long_size, False)
        return Value(self.fold(f"{value.code} * 1000000 // {self.env.hz}", 4, False), 4, False)

    def call_be16_to_cpu(self, arguments: list[Tree]) -> Value:
        return self.swapped(arguments[0], 2, ">")

    def call_be32_to_cpu(self, arguments: list[Tree]) -> Value:
        return self.swapped(arguments[0], 4, ">")

    def call_be64_to_cpu(self, arguments: list[Tree]) -> Value:
        return self.swapped(arguments[0], 8, ">")

    def call_le16_to_cpu(self, arguments: list[Tree]) -> Value:
        return self.swapped(arguments[0], 2, "<")

    def call_le32_to_cpu(self, arguments: list[Tree]) -> Value:
        return self.swapped(arguments[0], 4, "<")

    def call_le64_to_cpu(self, arguments: list[Tree]) -> Value:
        return self.swapped(arguments[0], 8, "<")

    call_ntohs, call_ntohl = call_be16_to_cpu, call_be32_to_cpu
    call_le16_to_cpup, call_le32_to_cpup, call_be64_to_cpup = call_le16_to_cpu, call_le32_to_cpu, call_be64_to_cpu

    def swapped(self, tree: Tree, size: int, order: str) -> Value:
        value = self.value(tree)
        value = self.load(value, "0") if value.kind == "mem" else value
        value = self.convert(self.number(value), size, False)
        if order == self.order:
            return value
        return Value(f'int.from_bytes(({value.code}).to_bytes({size}, "little"), "big")', size, False)

    # ---- statement expressions

    def on_block(self, tree: Tree) -> Value:
        """``({ ... })``: declarations, assignments, ``trace_seq_printf`` into the text that is the value."""
        before = dict(self.locals)
        pieces: list[str] = []
        result: Value | None = None
        try:
            for statement in tree[1]:
                result = self.statement(statement, pieces)
        finally:
            self.locals = before
        if result is None:
            raise Unsupported("a block without value")
        if result.kind == "saved":
            if not pieces:
                raise Unsupported("a block that prints nothing")
            code = "+".join(pieces) if len(pieces) > 1 else pieces[0]
            return Value(f'({code}).partition("\\0")[0]', kind="str")
        return result

    def statement(self, tree: Tree, pieces: list[str]) -> Value | None:
        if tree[0] == "declare":
            words, name, is_array, start = tree[1:]
            if start is not None and start[0] == "call" and start[1] == "trace_seq_buffer_ptr":
                self.locals[name] = Value("", kind="saved")
            elif is_array:
                self.locals[name] = self.value(start) if start else Value("", kind="table", layout=[])
            elif start is not None:
                value = self.value(start)
                if "*" not in words and value.kind == "int":
                    size, signed, _ = self.type_of(words)
                    value = self.convert(value, size, signed)
                self.locals[name] = value
            else:
                words = tuple(word for word in words if word not in ("const", "static"))
                layout = self.env.struct(" ".join(words)) if self.env.struct and words[:1] in (("struct",), ("union",)) else None
                if layout is None:
                    raise Unsupported(f"the layout of {' '.join(words)} is not known")
                self.locals[name] = Value("0", kind="struct", size=layout.size, layout=layout)
            return None
        if tree[0] == "assign":
            target, value = tree[1], self.integer(tree[2])
            if target[0] == "member" and target[1][0] == "name":
                old = self.locals.get(target[1][1])
                member = old.layout.member(target[2]) if old is not None and old.kind == "struct" else None
                if old is not None and member is not None and not member.bit_offset and not member.bit_size:
                    raw = self.convert(value, member.type.size or 4, False)
                    self.locals[target[1][1]] = Value(f"({raw.code})", kind="struct", size=old.size, layout=old.layout)
                    return None
            if target[0] == "name" and target[1] in self.locals:
                self.locals[target[1]] = value
                return None
            raise Unsupported("an assignment")
        if tree[0] == "call" and tree[1] in ("trace_seq_printf", "trace_seq_puts", "trace_seq_putc"):
            return self.sequence(tree[1], tree[2][1:], pieces)
        return self.value(tree)

    def sequence(self, name: str, arguments: list[Tree], pieces: list[str]) -> Value | None:
        from .print_fmt_printf import Printf

        if name == "trace_seq_putc":
            code = self.integer(arguments[0])
            if code.const != 0:
                pieces.append(f"chr({code.code} & 255)")
        elif name == "trace_seq_puts":
            pieces.append(self.text(self.value(arguments[0])).code)
        else:
            fmt = arguments[0]
            if fmt[0] != "str":
                raise Unsupported("a format that is not a string")
            pieces.append(Printf(self).code(fmt[1], arguments[1:]))
        return None


def _compare(operator: str, left: int, right: int) -> int:
    if operator in ("==", "!="):
        return int((left == right) == (operator == "=="))
    if operator in ("<=", ">="):
        return int(left <= right if operator == "<=" else left >= right)
    return int(left < right if operator == "<" else left > right)


def _compute(operator: str, left: int, right: int) -> int:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    if operator == "&":
        return left & right
    if operator == "|":
        return left | right
    if operator == "^":
        return left ^ right
    return _divide(left, right) if operator == "/" else _modulo(left, right)


def _divide(left: int, right: int) -> int:
    """C's division, towards zero; by zero gives 0, as there is nobody to trap."""
    if not right:
        return 0
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _modulo(left: int, right: int) -> int:
    return left - _divide(left, right) * right
