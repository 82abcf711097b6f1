"""What compiled ``print fmt`` lines call at run time: texts of addresses, flags, arrays, masks.

The functions here follow the kernel's ``vsprintf`` (lib/vsprintf.c) and ``trace_print_*_seq`` (kernel/trace/trace_output.c); where
libtraceevent prints something else, that is in ``print_fmt_tep``.  Texts keep bytes that are not UTF-8 as surrogates, so that output is
byte for byte what was recorded (``render.text.encode``).

Memory comes as ``bytes``, cut at the end of its record: what a lying record says about lengths never reaches outside of it.

Example:
    >>> flags("|", ((1, "A"), (6, "BC")))[7], flags("|", ((1, "A"),))[9]
    ('A|BC', 'A|0x8')
    >>> ip6c(bytes(15) + b"\\x01"), uuid(bytes(range(16)), "")
    ('::1', '00010203-0405-0607-0809-0a0b0c0d0e0f')
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = (
    "Memo",
    "Texts",
    "flags",
    "symbols",
    "hex_bytes",
    "int_array",
    "int_array_old",
    "bitmask",
    "bit_list",
    "ip4",
    "ip6",
    "ip6c",
    "sockaddr",
    "mac",
    "uuid",
    "escaped",
    "octal",
)

#: Entries that a memo keeps; then it starts afresh, so that a hostile file cannot fill memory.
_LIMIT = 1 << 16


class Memo(dict[int, str]):
    """Number -> text, computed once per number."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[int], str]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: int) -> str:
        if len(self) >= _LIMIT:
            self.clear()
        self[key] = text = self._make(key)
        return text


class Texts(dict[bytes, str]):
    """Bytes -> the C string in them as text."""

    __slots__ = ()

    def __missing__(self, key: bytes) -> str:
        if len(self) >= _LIMIT:
            self.clear()
        end = key.find(0)
        text = (key if end < 0 else key[:end]).decode("utf-8", "surrogateescape")
        if len(key) < 512:
            self[key] = text
        return text


def flags(delimiter: str, table: Sequence[tuple[int, str]]) -> Memo:
    """``__print_flags``: names of the bits set, what is left in hex (``trace_print_flags_seq``)."""

    def make(value: int) -> str:
        parts = []
        left = value
        for mask, name in table:
            if not left:
                break
            if left & mask == mask:
                parts.append(name)
                left &= ~mask
        if left:
            parts.append(f"0x{left:x}")
        return delimiter.join(parts)

    return Memo(make)


def symbols(table: Sequence[tuple[int, str]]) -> Memo:
    """``__print_symbolic``: the name of a value, or hex (``trace_print_symbols_seq``)."""
    names: dict[int, str] = {}
    for value, name in table:
        names.setdefault(value, name)

    def make(value: int) -> str:
        return names.get(value) or f"0x{value:x}"

    return Memo(make)


def hex_bytes(data: bytes, separator: str) -> str:
    """``__print_hex`` and ``%*ph``."""
    return data.hex(separator) if separator else data.hex()


def int_array(data: bytes, count: int, size: int, order: str) -> str:
    """``__print_array``: unsigned numbers in hex between braces (``trace_print_array_seq``)."""
    if size not in (1, 2, 4, 8):
        return "{" + ",".join(f"BAD SIZE:{size} 0x{byte:x}" for byte in data[: max(0, count)]) + "}"
    count = min(max(0, count), len(data) // size)
    numbers = struct.unpack_from(f"{order}{count}{'BBHHIIIIQ'[size]}", data)
    return "{" + ",".join([f"0x{number:x}" for number in numbers]) + "}"


def int_array_old(data: bytes, count: int, size: int, order: str) -> str:
    """``__print_array`` of libtraceevent 1.7: decimal numbers, blanks between them."""
    if size not in (1, 2, 4, 8):
        return " ".join([f"BAD SIZE:{size} {byte}" for byte in data[: max(0, count)]])
    count = min(max(0, count), len(data) // size)
    return " ".join(map(str, struct.unpack_from(f"{order}{count}{'BBHHIIIIQ'[size]}", data)))


def _bits(data: bytes, order: str, long_size: int) -> int:
    """A bitmap, which is an array of longs, as one number."""
    if order == "<":
        return int.from_bytes(data, "little")
    longs = [data[start : start + long_size] for start in range(0, len(data), long_size)]
    return int.from_bytes(b"".join(longs[::-1]), "big")


def bitmask(data: bytes, order: str, long_size: int) -> str:
    """``__get_bitmask``: groups of 32 bits in hex (``%*pb``)."""
    if not data:
        return ""
    digits = f"{_bits(data, order, long_size):0{2 * len(data)}x}"
    first = len(digits) % 8
    groups = ([digits[:first]] if first else []) + [digits[i : i + 8] for i in range(first, len(digits), 8)]
    return ",".join(groups)


def bit_list(data: bytes, order: str, long_size: int) -> str:
    """``__get_cpumask`` of later kernels and ``%*pbl``: ranges of the bits that are set.

    Example:
        >>> bit_list(b"\\x0d\\x80", "<", 8)
        '0,2-3,15'
    """
    bits = f"{_bits(data, order, long_size):b}"[::-1]  # a number would be shifted as a whole for each range
    parts = []
    start = bits.find("1")
    while start >= 0:
        end = bits.find("0", start)
        end = len(bits) if end < 0 else end
        parts.append(f"{start}-{end - 1}" if end > start + 1 else f"{start}")
        start = bits.find("1", end)
    return ",".join(parts)


def ip4(data: bytes, form: str = "") -> str:
    """``%pI4`` and ``%pi4``; ``form`` holds what follows the 4 (h, n, l, b) and an ``i`` for leading zeros."""
    if len(data) < 4:
        return ""
    numbers = data[:4]
    if "r" in form:
        numbers = numbers[::-1]
    return ".".join([f"{n:03d}" if "i" in form else str(n) for n in numbers])


def ip6(data: bytes, colons: bool = True) -> str:
    """``%pI6`` (with colons) and ``%pi6``."""
    digits = data[:16].hex()
    return ":".join([digits[i : i + 4] for i in range(0, len(digits), 4)]) if colons else digits


def ip6c(data: bytes) -> str:
    """``%pI6c``: the longest run of two or more zero groups is ``::``; mapped and ISATAP addresses end in IPv4
    (``ip6_compressed_string``)."""
    data = data[:16].ljust(16, b"\0")
    words = [data[i] << 8 | data[i + 1] for i in range(0, 16, 2)]
    mapped = not any(words[:5]) and words[5] == 0xFFFF
    with_ip4 = mapped or (words[4] | 0x0200 == 0x0200 and words[5] == 0x5EFE)
    count = 6 if with_ip4 else 8
    best, best_at, run = 1, -1, 0
    for i in range(count - 1, -1, -1):
        run = run + 1 if words[i] == 0 else 0
        if run >= best and run > 1:
            best, best_at = run, i
    text, colon, i = "", False, 0
    while i < count:
        if i == best_at:
            text += "::" if colon or i == 0 else ":"
            colon = False
            i += best
            continue
        if colon:
            text += ":"
        text += f"{words[i]:x}"
        colon = True
        i += 1
    if with_ip4:
        text += (":" if colon else "") + ip4(data[12:])
    return text


def sockaddr(data: bytes, order: str, form: str = "") -> str:
    """``%pIS`` with what follows it: c compressed, p port, f flow, s scope.  An unknown family prints as the kernel's ``ip_addr_string``:
    "(einval)"."""
    family = int.from_bytes(data[:2], "little" if order == "<" else "big")
    port = int.from_bytes(data[2:4], "big")
    if family == 2 and len(data) >= 8:
        return ip4(data[4:8], "r" if "h" in form or "l" in form else "") + (f":{port}" if "p" in form else "")
    if family == 10 and len(data) >= 24:
        text = ip6c(data[8:24]) if "c" in form else ip6(data[8:24])
        if "p" in form or "f" in form or "s" in form:
            text = f"[{text}]"
        if "p" in form:
            text += f":{port}"
        if "f" in form:
            text += f"/{int.from_bytes(data[4:8], 'big') & 0x0FFFFFFF}"
        if "s" in form:
            text += f"%{int.from_bytes(data[24:28], 'little' if order == '<' else 'big')}"
        return text
    return "(einval)"


def mac(data: bytes, form: str) -> str:
    """``%pM``, ``%pMF`` (dashes), ``%pMR`` (reversed), ``%pm`` (no separator)."""
    data = data[:6]
    if "R" in form:
        data = data[::-1]
    return data.hex() if form[:1] == "m" else data.hex("-" if "F" in form else ":")


def uuid(data: bytes, form: str) -> str:
    """``%pU`` with b, B (big endian, the default), l, L (little endian); upper case letters give upper case."""
    data = data[:16].ljust(16, b"\0")
    if form[:1] in ("l", "L"):
        data = data[3::-1] + data[5:3:-1] + data[7:5:-1] + data[8:]
    text = f"{data[:4].hex()}-{data[4:6].hex()}-{data[6:8].hex()}-{data[8:10].hex()}-{data[10:].hex()}"
    return text.upper() if form[:1] in ("L", "B") else text


def escaped(data: bytes) -> str:
    """``%pE``: bytes that are not printable ASCII as C escapes."""
    special = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 27: "\\e", 34: '\\"', 92: "\\\\"}
    return "".join([special.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:o}") for byte in data])


def octal(value: int, always: bool) -> str:
    """``%#o``: C's prefix is one zero, unless the number is zero."""
    return f"{value:o}" if not always or not value else f"0{value:o}"
