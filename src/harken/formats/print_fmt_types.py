"""Types of C in print formats: sizes and signs, conversions between integers, and the variables of the fields.

Fields of the fixed part are unpacked by one ``struct`` call per record into local variables ``f0, f1, ...``.
"""

from __future__ import annotations

import struct

from ..base.ctype import Array, CType, Enum, Int, Ptr
from . import print_fmt_helpers as helpers
from .print_fmt_values import Unsupported, Value, constant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .event_format import EventFormat, FormatField
    from .print_fmt import Env

__all__ = ("TypeCoder",)

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


#: Letters of a text that do not come from the record: the events of Linux 6.18 have up to 1,000, the kernel's longest line 8192.
_MOST_TEXT = 1 << 12
#: Letters of the code of all expressions of a format, those within others counted again: the events of Linux 6.18 have up to 3,000.
_MOST_CODE = 1 << 16


class TypeCoder:
    """What compiling the arguments of one event starts from: names, fields, types, numbers."""

    def __init__(self, event: EventFormat, env: Env) -> None:
        self.event, self.env = event, env
        self.order = env.order
        self.names: dict[str, Any] = {"T": helpers.Texts(), "_h": helpers}
        self.slots: dict[tuple[int, str], str] = {}  # (offset, struct code) -> variable
        self.locals: dict[str, Value] = {}
        self.nesting = 0
        self.reach = 0  # the end of the fixed part that is read: shorter records are filled up, so that none is read beyond its end
        self.unknown: list[str] = []  # what could not be computed and is shown as "?"
        self._letters = self._code = 0

    def spend(self, letters: int) -> None:
        """Counts what a text has by its format alone (literals, widths, names), which a file could make as long as it wants.

        Raises:
            Unsupported: it is longer than anything that a kernel prints.
        """
        self._letters += letters
        if self._letters > _MOST_TEXT:
            raise Unsupported(f"texts of more than {_MOST_TEXT} letters")

    def counted(self, value: Value) -> Value:
        """The same value.

        Raises:
            Unsupported: its code and that of the values before it is longer than any kernel's: variables and some operators take the code
                of their operands twice, so that a line of text could become gigabytes.
        """
        self._code += len(value.code)
        if self._code > _MOST_CODE:
            raise Unsupported(f"expressions of more than {_MOST_CODE} letters of code")
        return value

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
        return text, tuple(variables), max(position, self.reach)

    def field(self, name: str) -> FormatField:
        found = self.event.field(name)
        if found is None:
            raise Unsupported(f"the format has no field {name}")
        self.reach = max(self.reach, found.offset + found.size)
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

    def number(self, value: Value) -> Value:
        """A value as an integer."""
        if value.kind == "int" or value.kind == "struct":
            return value
        if value.kind == "mem":  # the address of something in the record: all that can be told is that it is there
            return constant(1, self.env.long_size, False)
        raise Unsupported("a text where a number is needed")
