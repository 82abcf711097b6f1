"""printf: C's conversions with bpftrace's additions, compiled once per format.

``formatter`` turns a format and the layout of its record into one Python function (generated, so that an event costs one
``struct`` call and one ``%``): bytes of a record in, text out.

Conversions: ``%[flags][width][.precision][length]c`` with flags ``- + space # 0``; lengths ``hh h l ll j z t q`` (an integer is
cut to the length as C does: ``%x`` shows 32 bits, ``%lx`` 64); a ``*`` is accepted and ignored.

======  =============================================================
d i     signed decimal
u x X o unsigned; ``#`` prefixes 0x, 0X, 0
c       one byte
s       any value as text (strings, numbers, enums, tuples, addresses)
p       address with 0x
r       bytes, unprintable ones as ``\\xNN``; rx: all as ``\\xNN``; rh: hex with spaces
======  =============================================================

Example:
    >>> from harken.base.schema import Field, Schema
    >>> import struct
    >>> show = formatter("%5d|%x|%-4s|\\n", Schema("", 20, (Field("arg0", 8, "i"), Field("arg1", 12, "i"), Field("arg2", 16, "s", 4))))
    >>> show(struct.pack("=Qii4s", 1, 7, -1, b"ab"), 0)
    '    7|ffffffff|ab  |\\n'
"""

from __future__ import annotations

import struct
import sys

from ..base.record import Record
from ..base.schema import SIZES, Schema
from .values import buffer_text, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..base.schema import Buffer, Field

__all__ = ("Conversion", "parse", "formatter", "encoder", "bulk_encoder", "render", "integer_text")

_FLAGS = "-+ #0"
_LENGTHS = ("hh", "ll", "h", "l", "j", "z", "t", "q", "L")
_BITS = {"hh": 8, "h": 16, "": 32}
_RETYPED = {(8, True): "b", (8, False): "B", (16, True): "h", (16, False): "H", (32, True): "i", (32, False): "I"}
#: Most distinct values of one fixed-size string (``comm``) whose text is remembered.
_REMEMBERED = 4096


class Conversion(Record):
    """One ``%`` conversion; ``verb`` is its last letter ("rx" and "rh" for those), ``precision`` -1 if not given."""

    flags: str
    width: int
    precision: int
    length: str
    verb: str

    @property
    def bits(self) -> int:
        """Width of the integer that is shown."""
        return 64 if self.verb == "p" else _BITS.get(self.length, 64)


def parse(text: str) -> tuple[str | Conversion, ...]:
    """Splits a format into literal text and conversions; what is no conversion stays text.

    >>> parse("%d%%")
    (Conversion(flags='', width=0, precision=-1, length='', verb='d'), '%')
    """
    parts: list[str | Conversion] = []
    literal = ""
    position = 0
    while position < len(text):
        percent = text.find("%", position)
        if percent < 0:
            literal += text[position:]
            break
        literal += text[position:percent]
        if text.startswith("%%", percent):
            literal += "%"
            position = percent + 2
            continue
        conversion, position = _conversion(text, percent)
        if conversion is None:
            literal += text[percent:position]
            continue
        if literal:
            parts.append(literal)
            literal = ""
        parts.append(conversion)
    if literal:
        parts.append(literal)
    return tuple(parts)


def _conversion(text: str, start: int) -> tuple[Conversion | None, int]:
    at, end = start + 1, len(text)
    first = at
    while at < end and text[at] in _FLAGS:
        at += 1
    flags = text[first:at]
    width, at = _number(text, at)
    precision = -1
    if at < end and text[at] == ".":
        precision, at = _number(text, at + 1)
    length = next((name for name in _LENGTHS if text.startswith(name, at)), "")
    at += len(length)
    if at >= end or text[at] not in "diuxXocspr":
        return None, min(at + 1, end)
    verb = text[at]
    at += 1
    if verb == "r" and at < end and text[at] in "xh":
        verb += text[at]
        at += 1
    return Conversion(flags, width, precision, length, verb), at


def _number(text: str, at: int) -> tuple[int, int]:
    if text.startswith("*", at):
        return 0, at + 1
    first = at
    while at < len(text) and text[at] in "0123456789":
        at += 1
    return min(int(text[first:at] or 0), 1 << 16), at


def integer_text(value: int, conversion: Conversion) -> str:
    """An integer as C's printf shows it, with every flag.

    >>> integer_text(8, Conversion("#", 6, -1, "", "o")), integer_text(0, Conversion("#", 0, -1, "", "x"))
    ('   010', '0')
    """
    verb, flags = conversion.verb, conversion.flags
    bits = conversion.bits
    value &= (1 << bits) - 1
    if verb in "di" and value >> (bits - 1):
        value -= 1 << bits
    base = {"x": "x", "X": "X", "p": "x", "o": "o"}.get(verb, "d")
    digits = "" if conversion.precision == 0 and not value else format(abs(value), base)
    digits = digits.rjust(conversion.precision, "0") if conversion.precision > 0 else digits
    prefix = ""
    if verb in "di":
        prefix = "-" if value < 0 else "+" if "+" in flags else " " if " " in flags else ""
    elif value and (verb == "p" or "#" in flags and verb in "xX"):
        prefix = "0X" if verb == "X" else "0x"
    elif "#" in flags and verb == "o" and not digits.startswith("0"):
        prefix = "0"
    if "0" in flags and "-" not in flags and conversion.precision < 0:
        digits = digits.rjust(conversion.width - len(prefix), "0")
    text = prefix + digits
    return text.ljust(conversion.width) if "-" in flags else text.rjust(conversion.width)


def render(text: str, schema: Schema, record: Buffer, start: int = 0) -> str:
    """One record as text (for many, keep the ``formatter``)."""
    return formatter(text, schema)(record, start)


def formatter(text: str, schema: Schema, errors: str = "surrogateescape") -> Callable[[Buffer, int], str]:
    """A function (buffer, start of the record) -> text.

    Args:
        text: the format.
        schema: the record's layout; its fields are the arguments in order.
        errors: what becomes of bytes that are not UTF-8 (an error handler of ``bytes.decode``).

    Conversions without an argument stay as they are written; arguments without a conversion are not shown.
    """
    return _compiled(text, schema, _Code(errors))  # type: ignore[no-any-return]


def encoder(text: str, schema: Schema) -> Callable[[Buffer, int], bytes]:
    """The same with bytes as result: strings are never decoded, widths count bytes as in C, and it is a third faster.

    >>> from harken.base.schema import Field
    >>> encoder("%s!", Schema("", 4, (Field("arg0", 0, "s", 4),)))(b"ab\\0\\0", 0)
    b'ab!'
    """
    return _compiled(text, schema, _Code(None))  # type: ignore[no-any-return]


def bulk_encoder(text: str, schema: Schema) -> Callable[[memoryview, range], list[bytes]] | None:
    """Like ``encoder`` for many records of one length at once: (buffer, starts) -> one result per record.

    None if the records have parts of changing length, or nothing to decode.
    """
    code = _Code(None)
    _compiled(text, schema, code)
    if code.needs_buffer or not code.loads:
        return None
    return code.bulk()


def _compiled(text: str, schema: Schema, code: _Code) -> Any:
    fields = iter(schema.fields)
    pattern, arguments = "", []
    for part in parse(text):
        if isinstance(part, str):
            pattern += part.replace("%", "%%")
            continue
        field = next(fields, None)
        if field is None:
            pattern += "%%" + _written(part).replace("%", "%%")
            continue
        shown, argument = _argument(part, field, code)
        pattern += shown
        arguments.append(argument)
    if not arguments:
        constant = code.literal(pattern % ())
        return lambda _buffer, _start=0: constant
    return code.function(pattern, arguments)


def _written(conversion: Conversion) -> str:
    width = str(conversion.width or "")
    precision = "" if conversion.precision < 0 else f".{conversion.precision}"
    return conversion.flags + width + precision + conversion.length + conversion.verb


def _argument(conversion: Conversion, field: Field, code: _Code) -> tuple[str, str]:
    """What stands for one conversion in the pattern of Python's ``%``, and the expression for its value."""
    verb, width, precision = conversion.verb, conversion.width, conversion.precision
    left = "-" if "-" in conversion.flags else ""
    sized = f"{left}{width or ''}"
    number = field.count == 1 and field.kind in "bBhHiIqQ?"
    if verb in "diuxXop" and number:
        value = code.integer(field, conversion.bits, verb in "di")
        if precision >= 0 or verb == "p" or set(conversion.flags) - set("-0") or (verb == "o" and conversion.flags):
            return "%s", f"{code.shower(lambda number: integer_text(number, conversion))}({value})"
        zero = "0" if "0" in conversion.flags and not left else ""
        return f"%{zero}{sized}{'d' if verb in 'diu' else verb}", value
    if verb == "c" and number:
        return f"%{sized}s", f"{code.constant(code.characters())}[{code.integer(field, 8, False)}]"
    limit = f".{precision}" if precision >= 0 else ""
    if verb in ("r", "rx", "rh") and field.kind in "pwsv":
        return f"%{sized}s", f"{code.shower(_BYTES[verb])}({code.raw(field)})"
    if number and not field.role and field.kind != "?":
        return (f"%{sized}d", code.load(field.offset, field.kind)) if not limit else (f"%{sized}{limit}s", code.text(field))
    return f"%{sized}{limit}s", code.text(field)


def _hex_escapes(raw: Buffer) -> str:
    return "".join([f"\\x{byte:02x}" for byte in bytes(raw)])


def _hex_spaced(raw: Buffer) -> str:
    return bytes(raw).hex(" ")


def _escaped(raw: Buffer) -> str:
    return buffer_text(bytes(raw))


_BYTES: dict[str, Callable[[Buffer], str]] = {"r": _escaped, "rx": _hex_escapes, "rh": _hex_spaced}


class _Code:
    """Collects the parts of one generated function, whose result is text (``errors``: how strings are decoded) or bytes (None)."""

    def __init__(self, errors: str | None) -> None:
        self.errors = errors
        self.names: dict[str, Any] = {}
        #: (offset, struct code, variables it gives), in any order
        self.loads: list[tuple[int, str, tuple[str, ...]]] = []
        #: whether something is read from the buffer beside the loads
        self.needs_buffer = False
        self._arguments: list[str] = []

    def literal(self, text: str) -> str | bytes:
        return text.encode("utf-8", "surrogateescape") if self.errors is None else text

    def characters(self) -> tuple[str | bytes, ...]:
        """What ``%c`` shows for each byte."""
        one = [bytes((code,)) for code in range(256)]
        return tuple(one) if self.errors is None else tuple([byte.decode("utf-8", "surrogateescape") for byte in one])

    def constant(self, value: object) -> str:
        name = f"k{len(self.names)}"
        self.names[name] = value
        return name

    def shower(self, show: Callable[[Any], str]) -> str:
        """The name of a function from a value to text."""
        return self.constant(show if self.errors is not None else lambda value: show(value).encode("utf-8", "surrogateescape"))

    def load(self, offset: int, code: str) -> str:
        return self._load(offset, code, 1)[0]

    def _load(self, offset: int, code: str, count: int) -> tuple[str, ...]:
        names = tuple([f"v{len(self.loads)}_{index}" for index in range(count)])
        self.loads.append((offset, code, names))
        return names

    def integer(self, field: Field, bits: int, signed: bool) -> str:
        """The field's value cut to ``bits`` as C does when it is passed to printf."""
        size = SIZES[field.kind] * 8
        has_sign = field.kind in "bhiq"
        if field.kind == "?" or size <= bits and (has_sign == signed or size < bits and not has_sign):
            return self.load(field.offset, field.kind)
        if size >= bits and (bits < 64 or size == 64):
            at = field.offset if sys.byteorder == "little" else field.offset + (size - bits) // 8
            return self.load(at, _RETYPED.get((bits, signed)) or ("q" if signed else "Q"))
        # a narrow negative number shown as a wide unsigned one
        return f"{self.load(field.offset, field.kind)} & {(1 << bits) - 1}"

    def raw(self, field: Field) -> str:
        """The bytes of a string or buffer."""
        if field.kind in "sp":
            return self.load(field.offset, f"{field.count}s")
        self.needs_buffer = True
        # length << 16 | offset, read as two halves
        low, high = self._load(field.offset, "HH", 2)
        where, length = (low, high) if sys.byteorder == "little" else (high, low)
        at = f"at{len(self.loads)}"
        return f"buffer[({at} := start + {where}) : {at} + {length}]"

    def text(self, field: Field) -> str:
        """The value as text, whatever it is."""
        if not field.role and field.kind == "v":
            return self.raw(field) if self.errors is None else f"str({self.raw(field)}, 'utf-8', {self.errors!r})"
        if not field.role and field.kind == "s":
            return f"{self.constant(_Strings(self.errors))}[{self.raw(field)}]"
        show = self.shower(text_of(field))
        if field.count == 1 and field.kind in "bBhHiIqQ?":
            return f"{show}({self.load(field.offset, field.kind)})"
        self.needs_buffer = True
        inner = Schema("", field.offset + field.size, (field,)).decoder()
        return f"{show}({self.constant(inner)}(buffer, start)[0])"

    def layout(self) -> tuple[str, int, str]:
        """The loads as a ``struct`` format, its size, and the variables in order."""
        layout, position = "=", 0
        names: list[str] = []
        for offset, code, variables in sorted(self.loads):
            if offset > position:
                layout += f"{offset - position}x"
            layout += code
            position = offset + struct.calcsize("=" + code)
            names += variables
        return layout, position, ", ".join(names)

    def function(self, pattern: str, arguments: list[str]) -> Callable[[Buffer, int], Any]:
        self._arguments = arguments
        self.names["pattern"] = self.literal(pattern)
        head = ""
        if self.loads:
            layout, _size, variables = self.layout()
            self.names["unpack"] = struct.Struct(layout).unpack_from
            head = f"    ({variables},) = unpack(buffer, start)\n"
        return self._made(f"def show(buffer, start=0):\n{head}    return pattern % ({', '.join(arguments)},)\n")

    def bulk(self) -> Callable[[memoryview, range], list[bytes]]:
        """The loop over many records, after ``function``."""
        layout, size, variables = self.layout()
        each = self._made(f"def show(rows):\n    return [pattern % ({', '.join(self._arguments)},) for ({variables},) in rows]\n")
        strides: dict[int, struct.Struct] = {}

        def show(buffer: memoryview, starts: range) -> list[bytes]:
            stride = starts.step
            whole = strides.get(stride)
            if whole is None:
                whole = strides[stride] = struct.Struct(f"{layout}{stride - size}x")
            return each(whole.iter_unpack(buffer[starts.start : starts.start + len(starts) * stride]))  # type: ignore[no-any-return]

        return show

    def _made(self, source: str) -> Callable[..., Any]:
        exec(compile(source, "<printf>", "exec"), self.names)
        return self.names["show"]  # type: ignore[no-any-return]


class _Strings(dict):  # type: ignore[type-arg]
    """The string in a fixed-size field by its raw bytes: a ``comm`` is cut and decoded once, not once per event."""

    def __init__(self, errors: str | None) -> None:
        self.errors = errors

    def __missing__(self, raw: bytes) -> str | bytes:
        end = raw.find(b"\0")
        cut = raw if end < 0 else raw[:end]
        text = cut if self.errors is None else cut.decode("utf-8", self.errors)
        if len(self) >= _REMEMBERED:
            self.clear()
        self[raw] = text
        return text
