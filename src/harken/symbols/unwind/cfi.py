"""Call frame information: from the bytes of an FDE to rows that tell where a caller's registers are.

``FrameSection`` is one .eh_frame or .debug_frame; it decodes entries one at a time, by offset.  ``Fde.row(address)`` is the row for one
instruction: how the canonical frame address (CFA, the stack pointer before the call) is found, and a rule for each register that the
function saved.  An FDE's program runs once, on first use; its rows stay.

The section is not trusted: instructions, rows and remembered states are counted, and offsets outside raise FormatError.

References: DWARF 5, section 6.4; LSB 5.0 Core, chapter 10.6 (.eh_frame); aadwarf64 (DW_CFA_AARCH64_negate_ra_state).

Example:
    A function of 16 bytes at 0x1000 that pushes one register in its first instruction (1 byte):

    >>> import struct
    >>> def entry(body):
    ...     body += bytes(-(len(body) + 4) % 8)
    ...     return struct.pack("<I", len(body)) + body
    >>> cie = entry(struct.pack("<IB", 0, 1) + b"zR\\0" + bytes([1, 0x78, 16, 1, 0x03]) + bytes([0x0C, 7, 8, 0x80 | 16, 1]))
    >>> fde = entry(struct.pack("<III", len(cie) + 4, 0x1000, 16) + bytes([0, 0x41, 0x0E, 16, 0x83, 2]))
    >>> section = FrameSection(memoryview(cie + fde), 0)
    >>> found = section.fde(len(cie))
    >>> found.start == 0x1000, found.row(0x1000), found.row(0x1001).rules
    (True, Row(cfa_register=7, cfa_offset=8, cfa_expression=b'', rules={16: (2, -8)}), {16: (2, -8), 3: (2, -16)})
"""

from __future__ import annotations

import struct
from bisect import bisect_right

from ...base.errors import FormatError
from ...base.record import Record
from .machines import RA_SIGN_STATE
from .reader import OMIT, WORD, block, pointer, sleb, uleb

TYPE_CHECKING = False
if TYPE_CHECKING:
    _Rules = dict[int, tuple[int, int | bytes]]

__all__ = ("FrameSection", "Fde", "Cie", "Row", "UNDEFINED", "SAME", "OFFSET", "VALUE_OFFSET", "REGISTER", "EXPRESSION", "VALUE_EXPRESSION")

#: Kinds of register rules (DWARF 5, section 6.4.1): unrecoverable; unchanged; saved at CFA + N; is CFA + N; is in another register;
#: saved at an expression's value; is an expression's value.
UNDEFINED, SAME, OFFSET, VALUE_OFFSET, REGISTER, EXPRESSION, VALUE_EXPRESSION = range(7)

_MAX_INSTRUCTIONS = 1 << 18
_MAX_ROWS = 1 << 15
_MAX_DEPTH = 256
_MAX_REGISTERS = 256
_MAX_SCAN = 1 << 21
_DAMAGED = (IndexError, ValueError, struct.error, KeyError)


class Row(Record):
    """What holds from one address on: the CFA is a register plus an offset, or an expression; ``rules``: register -> (kind, value)."""

    cfa_register: int
    cfa_offset: int
    cfa_expression: bytes
    rules: _Rules


class Cie:
    """What the FDEs of one kind have in common; ``signal`` marks frames that a signal made (their "return address" is no call's)."""

    __slots__ = ("code_align", "data_align", "ra", "encoding", "augmented", "signal", "program", "address_size", "initial")

    def __init__(
        self, code_align: int, data_align: int, ra: int, encoding: int, augmented: bool, signal: bool, program: bytes, address_size: int
    ) -> None:
        self.code_align, self.data_align, self.ra = code_align, data_align, ra
        self.encoding, self.augmented, self.signal = encoding, augmented, signal
        self.program, self.address_size = program, address_size
        self.initial: Row | None = None


class Fde:
    """The frames of the instructions from ``start`` up to ``end``."""

    __slots__ = ("start", "end", "cie", "_program", "_place", "_section", "_starts", "_rows")

    def __init__(self, start: int, end: int, cie: Cie, program: bytes, place: int, section: FrameSection) -> None:
        self.start, self.end, self.cie = start, end, cie
        self._program, self._place, self._section = program, place, section
        self._starts: list[int] | None = None
        self._rows: list[Row] = []

    @property
    def signal(self) -> bool:
        return self.cie.signal

    def row(self, address: int) -> Row:
        """The row for an address of the function; raises FormatError."""
        if self._starts is None:
            self._starts, self._rows = self._run()
        return self._rows[max(bisect_right(self._starts, address) - 1, 0)]

    def _run(self) -> tuple[list[int], list[Row]]:
        cie = self.cie
        section = self._section
        try:
            if cie.initial is None:
                cie.initial = _Machine(section, cie, None, 0, cie.program, 0).run()[1][-1]
            machine = _Machine(section, cie, cie.initial, self.start, self._program, self._place)
            return machine.run()
        except _DAMAGED as error:
            raise FormatError(section.what, f"the frame information of the code at {self.start:#x} is damaged ({error})") from None


class _Machine:
    """Runs one program of call frame instructions."""

    def __init__(self, section: FrameSection, cie: Cie, initial: Row | None, location: int, program: bytes, place: int) -> None:
        self.section, self.cie, self.initial, self.location = section, cie, initial, location
        self.program, self.place = program, place

    def run(self) -> tuple[list[int], list[Row]]:
        cie, code, initial = self.cie, self.program, self.initial
        code_align, data_align = cie.code_align, cie.data_align
        location = self.location
        register, offset, expression = (initial.cfa_register, initial.cfa_offset, initial.cfa_expression) if initial else (-1, 0, b"")
        known: _Rules = initial.rules if initial else {}
        rules = dict(known)
        starts: list[int] = []
        rows: list[Row] = []
        remembered: list[tuple[int, int, bytes, _Rules]] = []
        position, end, budget = 0, len(code), _MAX_INSTRUCTIONS
        while position < end:
            budget -= 1
            if budget < 0 or len(rows) > _MAX_ROWS or len(rules) > _MAX_REGISTERS:
                raise ValueError("too long")
            op = code[position]
            position += 1
            low = op & 0x3F
            high = op & 0xC0
            advance = -1
            if high == 0x40:
                advance = low * code_align
            elif high == 0x80:
                value, position = uleb(code, position)
                rules[low] = (OFFSET, value * data_align)
            elif high == 0xC0:
                _restore(rules, known, low)
            elif op == 0x0E:  # def_cfa_offset
                offset, position = uleb(code, position)
                expression = b""
            elif op == 0x0D:  # def_cfa_register
                register, position = uleb(code, position)
                expression = b""
            elif op == 0x0C:  # def_cfa
                register, position = uleb(code, position)
                offset, position = uleb(code, position)
                expression = b""
            elif op == 0x0A:  # remember_state
                if len(remembered) >= _MAX_DEPTH:
                    raise ValueError("too many remembered states")
                remembered.append((register, offset, expression, dict(rules)))
            elif op == 0x0B:  # restore_state; like all unwinders, the CFA too
                if not remembered:
                    raise ValueError("no state is remembered")
                register, offset, expression, rules = remembered.pop()
            elif op in (0x02, 0x03, 0x04, 0x1D):  # advance_loc1, 2, 4, MIPS_advance_loc8
                size = 8 if op == 0x1D else 1 << (op - 2)
                if position + size > end:
                    raise IndexError("cut off")
                advance = int.from_bytes(code[position : position + size], "little") * code_align
                position += size
            elif op == 0x01:  # set_loc
                target, position = self.section.pointer(code, position, cie.encoding, self.place + position)
                if target < location:
                    raise ValueError("set_loc goes back")
                advance = target - location
            elif op == 0x00:
                pass
            elif op == 0x05:  # offset_extended
                number, position = uleb(code, position)
                value, position = uleb(code, position)
                rules[number] = (OFFSET, value * data_align)
            elif op == 0x06:  # restore_extended
                number, position = uleb(code, position)
                _restore(rules, known, number)
            elif op == 0x07:
                number, position = uleb(code, position)
                rules[number] = (UNDEFINED, 0)
            elif op == 0x08:
                number, position = uleb(code, position)
                rules[number] = (SAME, 0)
            elif op == 0x09:
                number, position = uleb(code, position)
                value, position = uleb(code, position)
                rules[number] = (REGISTER, value)
            elif op == 0x0F:  # def_cfa_expression
                expression, position = block(code, position)
            elif op in (0x10, 0x16):  # expression, val_expression
                number, position = uleb(code, position)
                content, position = block(code, position)
                rules[number] = (EXPRESSION if op == 0x10 else VALUE_EXPRESSION, content)
            elif op in (0x11, 0x15):  # offset_extended_sf, val_offset_sf
                number, position = uleb(code, position)
                value, position = sleb(code, position)
                rules[number] = (OFFSET if op == 0x11 else VALUE_OFFSET, value * data_align)
            elif op == 0x12:  # def_cfa_sf
                register, position = uleb(code, position)
                value, position = sleb(code, position)
                offset, expression = value * data_align, b""
            elif op == 0x13:  # def_cfa_offset_sf
                value, position = sleb(code, position)
                offset, expression = value * data_align, b""
            elif op == 0x14:  # val_offset
                number, position = uleb(code, position)
                value, position = uleb(code, position)
                rules[number] = (VALUE_OFFSET, value * data_align)
            elif op in (0x2C, 0x2D):  # AARCH64_negate_ra_state(_with_pc); the number is GNU_window_save on SPARC, which is not unwound here
                rules[RA_SIGN_STATE] = (VALUE_OFFSET, 1 ^ int(rules.get(RA_SIGN_STATE, (0, 0))[1]))
            elif op == 0x2E:  # GNU_args_size: of no use here
                _, position = uleb(code, position)
            elif op == 0x2F:  # GNU_negative_offset_extended
                number, position = uleb(code, position)
                value, position = uleb(code, position)
                rules[number] = (OFFSET, -value * data_align)
            else:
                raise ValueError(f"unknown instruction {op:#x}")
            if advance > 0:
                starts.append(location)
                rows.append(Row(register, offset, expression, dict(rules)))
                location = (location + advance) & WORD
        starts.append(location)
        rows.append(Row(register, offset, expression, rules))
        return starts, rows


def _restore(rules: _Rules, known: _Rules, number: int) -> None:
    if number in known:
        rules[number] = known[number]
    else:
        rules.pop(number, None)


class FrameSection:
    """.eh_frame or .debug_frame of a little-endian file.

    Args:
        data: the section's bytes.
        address: where it is loaded (pointers in .eh_frame count from their own place).
        debug: whether this is .debug_frame, which differs in how an entry names its CIE.
        text, base: what text- and data-relative pointers count from.
        what: for messages.
        word: bytes of an address.
    """

    def __init__(
        self, data: memoryview, address: int, debug: bool = False, text: int = 0, base: int = 0, what: str = "frame", word: int = 8
    ) -> None:
        self.data, self.address, self.debug, self.text, self.base, self.what, self.word = data, address, debug, text, base, what, word
        self._cies: dict[int, Cie] = {}
        self._index: tuple[list[int], list[int]] | None = None

    def pointer(self, data: bytes | memoryview, position: int, encoding: int, place: int) -> tuple[int, int]:
        """An encoded pointer of this section (``reader.pointer``)."""
        return pointer(data, position, encoding, place, self.text, self.base, word=self.word)

    def fde(self, offset: int) -> Fde:
        """The FDE at an offset of the section; raises FormatError if there is none."""
        found = self._entry(offset)[0]
        if found is None:
            raise FormatError(self.what, "no FDE here", offset)
        return found

    def find(self, address: int) -> Fde | None:
        """The FDE of an address, by walking the whole section once (there are files without .eh_frame_hdr); raises FormatError."""
        if self._index is None:
            self._index = self._scan()
        starts, offsets = self._index
        place = bisect_right(starts, address) - 1
        if place < 0:
            return None
        found = self.fde(offsets[place])
        return found if found.start <= address < found.end else None

    def _scan(self) -> tuple[list[int], list[int]]:
        found: list[tuple[int, int]] = []
        offset, size = 0, len(self.data)
        while offset + 4 <= size and len(found) < _MAX_SCAN:
            try:
                entry, following = self._entry(offset)
            except FormatError:
                break  # what came before is still good
            if following <= offset:
                break
            if entry is not None and entry.end > entry.start:
                found.append((entry.start, offset))
            offset = following
        found.sort()
        return [start for start, _ in found], [place for _, place in found]

    def _header(self, offset: int) -> tuple[int, int, int, int]:
        """(where the id lies, the id, where the entry ends, size of the id); an end equal to the id's place is the section's terminator."""
        data = self.data
        try:
            (length,) = struct.unpack_from("<I", data, offset)
            start, width = offset + 4, 4
            if length == 0xFFFFFFFF:
                (length,) = struct.unpack_from("<Q", data, start)
                start += 8
                width = 8 if self.debug else 4
            if length == 0:
                return start, 0, start, 0
            end = start + length
            if end > len(data) or length < width:
                raise ValueError("an entry does not fit into the section")
            (number,) = struct.unpack_from("<Q" if width == 8 else "<I", data, start)
        except _DAMAGED as error:
            raise FormatError(self.what, str(error), offset) from None
        return start, number, end, width

    def _entry(self, offset: int) -> tuple[Fde | None, int]:
        """(the FDE at an offset, or None for a CIE or a terminator; the offset of what follows)."""
        if not 0 <= offset < len(self.data):
            raise FormatError(self.what, "outside of the section", offset)
        start, number, end, width = self._header(offset)
        if not width:
            return None, end
        if number == ((1 << (8 * width)) - 1 if self.debug else 0):
            return None, end
        try:
            cie = self._cie(number if self.debug else start - number)
            data, position = self.data, start + width
            if self.debug:
                low, position = pointer(data, position, 0, 0, word=cie.address_size)
                size, position = pointer(data, position, 0, 0, word=cie.address_size)
            else:
                low, position = self.pointer(data, position, cie.encoding, self.address + position)
                size, position = self.pointer(data, position, cie.encoding & 0x0F, 0)
            if cie.augmented:
                skip, position = uleb(data, position)
                position += skip
            if position > end:
                raise ValueError("an FDE does not fit into its entry")
        except _DAMAGED as error:
            raise FormatError(self.what, str(error), offset) from None
        return Fde(low, low + size, cie, bytes(data[position:end]), self.address + position, self), end

    def _cie(self, offset: int) -> Cie:
        known = self._cies.get(offset)
        if known is not None:
            return known
        if not 0 <= offset < len(self.data):
            raise ValueError("a CIE outside of the section")
        start, number, end, width = self._header(offset)
        if not width or number != ((1 << (8 * width)) - 1 if self.debug else 0):
            raise ValueError("an FDE points to something else than a CIE")
        data = self.data[:end]
        position = start + width
        version = data[position]
        if version not in (1, 3, 4):
            raise ValueError(f"unknown CIE version {version}")
        position += 1
        stop = position
        while data[stop]:
            stop += 1
        augmentation = bytes(data[position:stop])
        position = stop + 1
        address_size = self.word
        if version == 4:
            address_size, segment = data[position], data[position + 1]
            position += 2
            if address_size not in (4, 8) or segment:
                raise ValueError("segmented addresses")
        if augmentation.startswith(b"eh"):  # GCC 2
            position += self.word
            augmentation = augmentation[2:]
        code_align, position = uleb(data, position)
        data_align, position = sleb(data, position)
        ra, position = (data[position], position + 1) if version == 1 else uleb(data, position)
        encoding, signal = 0, False
        augmented = augmentation.startswith(b"z")
        if augmented:
            size, position = uleb(data, position)
            following = position + size
            for letter in augmentation[1:]:
                if letter == 0x52:  # R: how FDEs encode addresses
                    encoding = data[position]
                    position += 1
                elif letter == 0x50:  # P: personality routine
                    shape = data[position]
                    _, position = self.pointer(data, position + 1, shape & 0x7F, 0)
                elif letter == 0x4C:  # L: how FDEs encode their language data
                    position += 1
                elif letter == 0x53:  # S: signal frames
                    signal = True
                elif letter not in (0x42, 0x47):  # B: key B signs pointers; G: memory tagging
                    break  # what is unknown is skipped by its size
            position = following
        elif b"S" in augmentation:
            signal = True
        if encoding == OMIT or position > end:
            raise ValueError("a CIE without addresses")
        cie = self._cies[offset] = Cie(code_align, data_align, ra, encoding, augmented, signal, bytes(data[position:]), address_size)
        return cie
