"""A decoder of zstd (RFC 8878) in Python: for machines that have neither Python 3.14 nor the ``zstandard`` package.

trace-cmd compresses recordings with zstd by default, so a recording must be readable without anything installed.  Frames are decoded one
block after the other; dictionaries are not supported (trace-cmd uses none).  Speed: 2 to 4 MB of output per second.

Sizes in a frame may lie: output never grows beyond ``limit``.

Example:
    >>> expand(bytes.fromhex("28b52ffd2003190000") + b"abc", 3)
    b'abc'
"""

from __future__ import annotations

from ..base.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("expand",)

_MAGIC = 0xFD2FB528
_MAX_BLOCK = 1 << 17

# Literal lengths, match lengths: (base, extra bits) by code (RFC 8878, tables 5 and 6).
_LITERALS = [(n, 0) for n in range(16)] + [
    (16, 1), (18, 1), (20, 1), (22, 1), (24, 2), (28, 2), (32, 3), (40, 3), (48, 4), (64, 6), (128, 7), (256, 8), (512, 9), (1024, 10),
    (2048, 11), (4096, 12), (8192, 13), (16384, 14), (32768, 15), (65536, 16),
]  # fmt: skip
_MATCHES = [(n, 0) for n in range(3, 35)] + [
    (35, 1), (37, 1), (39, 1), (41, 1), (43, 2), (47, 2), (51, 3), (59, 3), (67, 4), (83, 4), (99, 5), (131, 7), (259, 8), (515, 9),
    (1027, 10), (2051, 11), (4099, 12), (8195, 13), (16387, 14), (32771, 15), (65539, 16),
]  # fmt: skip
_OFFSETS = [(1 << n, n) for n in range(32)]

# Distributions that are used when a block brings none (RFC 8878, section 3.1.1.3.2.2).
_DEFAULT_LITERALS = [4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1]
_DEFAULT_MATCHES = [1, 4, 3, 2, 2, 2, 2, 2, 2] + [1] * 37 + [-1] * 7
_DEFAULT_OFFSETS = [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1]

#: An FSE table: for each state (symbol, bits to read, base of the next state).
_Table = list[tuple[int, int, int]]


class _Bad(Exception):
    """The data is not valid; ``expand`` says so."""


def expand(data: Any, limit: int) -> bytes:
    """The content of all frames in ``data``.

    Raises:
        FormatError: it is not zstd, is damaged, or holds more than ``limit`` bytes.
    """
    source = bytes(data)
    out = bytearray()
    at = 0
    try:
        while at < len(source):
            magic = int.from_bytes(source[at : at + 4], "little")
            if magic & 0xFFFFFFF0 == 0x184D2A50:  # a frame to be skipped
                at += 8 + int.from_bytes(source[at + 4 : at + 8], "little")
                continue
            if magic != _MAGIC:
                raise _Bad("no zstd frame")
            at = _frame(source, at + 4, out, limit)
    except (_Bad, IndexError, ValueError) as error:  # a negative shift, a missing byte: the data ends too early
        raise FormatError("zstd data", str(error) if isinstance(error, _Bad) else "it ends too early", at) from None
    return bytes(out)


def _frame(source: bytes, at: int, out: bytearray, limit: int) -> int:
    descriptor = source[at]
    at += 1
    single, checksum = descriptor >> 5 & 1, descriptor >> 2 & 1
    if descriptor & 3:
        raise _Bad("a dictionary is needed")
    if not single:
        at += 1  # the window: whole frames are kept in memory here
    at += (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    decoder = _Blocks(out, limit)
    while True:
        head = int.from_bytes(source[at : at + 3], "little")
        if at + 3 > len(source):
            raise _Bad("it ends too early")
        at += 3
        last, kind, size = head & 1, head >> 1 & 3, head >> 3
        if kind == 1:
            if len(out) + size > limit:
                raise _Bad(f"more than {limit} bytes")
            out += source[at : at + 1] * size
            at += 1
        else:
            if size > _MAX_BLOCK or at + size > len(source) or kind == 3:
                raise _Bad("a block that cannot be")
            if kind == 0:
                out += source[at : at + size]
            else:
                decoder.block(source[at : at + size])
            at += size
        if len(out) > limit:
            raise _Bad(f"more than {limit} bytes")
        if last:
            return at + 4 * checksum


class _Blocks:
    """Compressed blocks of a frame: tables and offsets may be taken over from the block before."""

    def __init__(self, out: bytearray, limit: int) -> None:
        self.out, self.limit, self.start = out, limit, len(out)
        self.huffman: tuple[list[tuple[int, int]], int] | None = None
        self.tables: list[tuple[_Table, int] | None] = [None, None, None]
        self.recent = [1, 4, 8]

    def block(self, data: bytes) -> None:
        literals, at = self._literals(data)
        count = data[at]
        at += 1
        if count == 0:
            self.out += literals
            return
        if count == 255:
            count = int.from_bytes(data[at : at + 2], "little") + 0x7F00
            at += 2
        elif count > 127:
            count = (count - 128 << 8) + data[at]
            at += 1
        modes = data[at]
        at += 1
        settings = ((6, 6, 35, _DEFAULT_LITERALS, 9), (4, 5, 31, _DEFAULT_OFFSETS, 8), (2, 6, 52, _DEFAULT_MATCHES, 9))
        for index, (shift, accuracy, most, default, deepest) in enumerate(settings):
            mode = modes >> shift & 3
            if mode == 0:
                self.tables[index] = _default(default, accuracy), accuracy
            elif mode == 1:
                if data[at] > most:
                    raise _Bad("an unknown code")
                self.tables[index] = [(data[at], 0, 0)], 0
                at += 1
            elif mode == 2:
                counts, log, at = _distribution(data, at, most, deepest)
                self.tables[index] = _fse(counts, log), log
            elif self.tables[index] is None:
                raise _Bad("a table of a block that there is not")
        self._sequences(data[at:], count, literals)

    # -- literals

    def _literals(self, data: bytes) -> tuple[bytes, int]:
        """(literals, where the rest of the block begins)."""
        kind, form = data[0] & 3, data[0] >> 2 & 3
        if kind < 2:
            size, at = (data[0] >> 3, 1) if not form & 1 else (int.from_bytes(data[:2], "little") >> 4, 2)
            if form == 3:
                size, at = int.from_bytes(data[:3], "little") >> 4, 3
            if size > _MAX_BLOCK:
                raise _Bad("too many literals")
            return (data[at : at + size], at + size) if kind == 0 else (data[at : at + 1] * size, at + 1)
        bits, length = ((10, 3), (10, 3), (14, 4), (18, 5))[form]
        head = int.from_bytes(data[:length], "little") >> 4
        size, packed = head & (1 << bits) - 1, head >> bits & (1 << bits) - 1
        if size > _MAX_BLOCK or length + packed > len(data):
            raise _Bad("too many literals")
        body = data[length : length + packed]
        if kind == 2:
            self.huffman, used = _huffman(body)
            body = body[used:]
        elif self.huffman is None:
            raise _Bad("a table of a block that there is not")
        if form == 0:
            return _stream(body, size, self.huffman), length + packed
        ends = [int.from_bytes(body[at : at + 2], "little") for at in (0, 2, 4)]
        part, pieces, at = (size + 3) // 4, [], 6
        for index in range(4):
            stop = at + ends[index] if index < 3 else len(body)
            pieces.append(_stream(body[at:stop], part if index < 3 else size - 3 * part, self.huffman))
            at = stop
        return b"".join(pieces), length + packed

    # -- sequences

    def _sequences(self, data: bytes, count: int, literals: bytes) -> None:
        word, left = _bits(data)
        (lt, ll), (ot, ol), (mt, ml) = [table for table in self.tables if table is not None]
        left -= ll
        ls = word >> left & (1 << ll) - 1
        left -= ol
        os_ = word >> left & (1 << ol) - 1
        left -= ml
        ms = word >> left & (1 << ml) - 1
        out, recent, at, limit = self.out, self.recent, 0, self.limit
        base = max(left - 4096, 0)  # a slice of the bits: shifting all of them each time would be quadratic
        window = word >> base
        for number in range(count):
            if left < base + 256:
                base = max(left - 4096, 0)
                window = (word >> base) & (1 << 4400) - 1
            code, lbits, lnext = lt[ls]
            offset_code, obits, onext = ot[os_]
            match_code, mbits, mnext = mt[ms]
            place = left - base - offset_code
            value = (1 << offset_code) + (window >> place & (1 << offset_code) - 1) if place >= 0 else -1
            match, extra = _MATCHES[match_code]
            place -= extra
            if place < 0 or value < 0:
                raise _Bad("it ends too early")
            match += window >> place & (1 << extra) - 1
            length, extra = _LITERALS[code]
            place -= extra
            if place < 0:
                raise _Bad("it ends too early")
            length += window >> place & (1 << extra) - 1
            offset = self._offset(value, length, recent)
            if number + 1 < count:
                place -= lbits
                if place - mbits - obits < 0:
                    raise _Bad("it ends too early")
                ls = lnext + (window >> place & (1 << lbits) - 1)
                place -= mbits
                ms = mnext + (window >> place & (1 << mbits) - 1)
                place -= obits
                os_ = onext + (window >> place & (1 << obits) - 1)
            left = place + base
            out += literals[at : at + length]
            at += length
            start = len(out) - offset
            if start < self.start or at > len(literals):
                raise _Bad("a match that cannot be")
            if len(out) + match > limit:
                raise _Bad(f"more than {limit} bytes")
            if offset >= match:
                out += out[start : start + match]
            else:
                piece = bytes(out[start:])
                out += (piece * (match // offset + 1))[:match]
        out += literals[at:]

    def _offset(self, value: int, length: int, recent: list[int]) -> int:
        if value > 3:
            recent[:] = [value - 3, recent[0], recent[1]]
            return recent[0]
        index = value - 1 + (length == 0)
        if index == 0:
            return recent[0]
        offset = recent[index] if index < 3 else recent[0] - 1
        if offset < 1:
            raise _Bad("an offset of zero")
        if index == 1:
            recent[:] = [offset, recent[0], recent[2]]
        else:
            recent[:] = [offset, recent[0], recent[1]]
        return offset


def _bits(data: bytes) -> tuple[int, int]:
    """(bits of a stream that is read from its end, how many): the highest set bit marks the end."""
    if not data or not data[-1]:
        raise _Bad("a stream without an end")
    word = int.from_bytes(data, "little")
    return word, word.bit_length() - 1


_defaults: dict[int, _Table] = {}


def _default(counts: list[int], accuracy: int) -> _Table:
    table = _defaults.get(id(counts))
    if table is None:
        table = _defaults[id(counts)] = _fse(counts, accuracy)
    return table


def _distribution(data: bytes, at: int, most: int, deepest: int) -> tuple[list[int], int, int]:
    """(probabilities, accuracy, where the table ends) of an FSE table's description."""
    word = int.from_bytes(data[at : at + 128], "little")
    accuracy = (word & 15) + 5
    if accuracy > deepest:
        raise _Bad("a table that is too large")
    bit, left = 4, (1 << accuracy) + 1
    counts: list[int] = []
    while left > 1:
        if len(counts) > most:
            raise _Bad("too many codes")
        bits = left.bit_length()
        value = word >> bit & (1 << bits) - 1
        low = (1 << bits - 1) - 1
        threshold = (1 << bits) - 1 - left
        if value & low < threshold:
            bit += bits - 1
            value &= low
        else:
            bit += bits
            if value > low:
                value -= threshold
        count = value - 1
        left -= abs(count)
        counts.append(count)
        if count == 0:
            while True:
                repeat = word >> bit & 3
                bit += 2
                counts += [0] * repeat
                if repeat < 3:
                    break
                if len(counts) > most:
                    raise _Bad("too many codes")
    if left != 1 or len(counts) > most + 1 or at + (bit + 7) // 8 > len(data):
        raise _Bad("a table that does not add up")
    return counts, accuracy, at + (bit + 7) // 8


def _fse(counts: list[int], accuracy: int) -> _Table:
    size = 1 << accuracy
    symbols = [0] * size
    high = size
    following = []
    for symbol, count in enumerate(counts):
        following.append(1 if count == -1 else count)
        if count == -1:
            high -= 1
            symbols[high] = symbol
    step, mask, position = (size >> 1) + (size >> 3) + 3, size - 1, 0
    for symbol, count in enumerate(counts):
        for _ in range(max(count, 0)):
            symbols[position] = symbol
            position = position + step & mask
            while position >= high:
                position = position + step & mask
    if position:
        raise _Bad("a table that does not add up")
    table = []
    for symbol in symbols:
        state = following[symbol]
        following[symbol] += 1
        bits = accuracy - state.bit_length() + 1
        table.append((symbol, bits, (state << bits) - size))
    return table


def _huffman(data: bytes) -> tuple[tuple[list[tuple[int, int]], int], int]:
    """((table by the next bits: (symbol, length), bits), bytes used) of a Huffman tree's description."""
    head = data[0]
    if head >= 128:
        count = head - 127
        used = 1 + (count + 1) // 2
        weights = [data[1 + n // 2] >> (0 if n & 1 else 4) & 15 for n in range(count)]
    else:
        used = 1 + head
        if used > len(data):
            raise _Bad("it ends too early")
        weights = _weights(data[1:used])
    total = sum(1 << weight >> 1 for weight in weights)
    if not total or any(weight > 11 for weight in weights):
        raise _Bad("a tree that does not add up")
    bits = total.bit_length()
    rest = (1 << bits) - total
    if rest & rest - 1 or bits > 11:
        raise _Bad("a tree that does not add up")
    weights.append(rest.bit_length())
    table: list[tuple[int, int]] = []
    for weight in range(1, bits + 1):
        for symbol, own in enumerate(weights):
            if own == weight:
                table += [(symbol, bits + 1 - weight)] * (1 << weight - 1)
    if len(table) != 1 << bits:
        raise _Bad("a tree that does not add up")
    return (table, bits), used


def _weights(data: bytes) -> list[int]:
    """Weights that are themselves compressed: two states take turns."""
    counts, accuracy, at = _distribution(data, 0, 12, 6)
    table = _fse(counts, accuracy)
    word, left = _bits(data[at:])
    left -= 2 * accuracy
    if left < 0:
        raise _Bad("it ends too early")
    first, second = word >> left + accuracy & (1 << accuracy) - 1, word >> left & (1 << accuracy) - 1
    weights: list[int] = []
    while len(weights) < 255:
        symbol, bits, base = table[first]
        weights.append(symbol)
        if left < bits:
            weights.append(table[second][0])
            return weights
        left -= bits
        first, second = second, base + (word >> left & (1 << bits) - 1)
    raise _Bad("a tree that is too large")


def _stream(data: bytes, size: int, tree: tuple[list[tuple[int, int]], int] | None) -> bytes:
    """Literals of one Huffman stream."""
    if tree is None:
        raise _Bad("a table of a block that there is not")
    table, bits = tree
    word, left = _bits(data)
    word = (word ^ 1 << left) << bits  # room below, so that the last codes can be looked up like the others
    left += bits
    mask = (1 << bits) - 1
    out = bytearray()
    base = max(left - 4096, 0)
    window = word >> base
    for _ in range(size):
        if left < base + 64 and base:
            base = max(left - 4096, 0)
            window = word >> base & (1 << 4200) - 1
        symbol, length = table[window >> left - base - bits & mask]
        out.append(symbol)
        left -= length
        if left < bits:
            raise _Bad("it ends too early")
    if left != bits:
        raise _Bad("literals that do not add up")
    return bytes(out)
