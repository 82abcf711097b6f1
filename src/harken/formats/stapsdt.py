"""USDT markers: the notes that ``sys/sdt.h`` leaves in section ``.note.stapsdt``, and their argument strings.

A note (owner "stapsdt", type 3) holds three addresses (the marker's instruction, the linker's ``.stapsdt.base``, the semaphore or 0)
and three strings (provider, name, arguments).  If the file was prelinked, the difference between the real ``.stapsdt.base`` and the
one in the note is added to the addresses.

An argument is ``SIZE@OPERAND`` in the machine's assembler syntax, SIZE negative when signed, with an ``f`` for floating point:
``-4@%edi``, ``8@-24(%rbp)``, ``8@counter+8(%rip)``, ``4@$7`` on x86; ``8@x0``, ``-4@[sp, 12]``, ``8@[x1, w2, sxtw 3]``, ``4@3`` on arm64.

Reference: https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation

Example:
    >>> [one.place for one in arguments("-4@%edi 8@-24(%rbp,%rcx,8) 4@$7", "x86_64")]
    ['rdi', '[rbp + rcx * 8 - 24]', '7']
"""

from __future__ import annotations

import struct

from ..base.errors import FormatError
from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .elf import Elf

__all__ = ("Marker", "Operand", "arguments", "markers", "tokens")

_MAX_MARKERS = 1 << 16
_MAX_ARGUMENTS = 64


class Marker(Record):
    """One place of one marker (inlining and repetition give several with the same name).

    ``address`` and ``semaphore`` are virtual addresses of the file, the latter 0 if there is none; ``offset`` and ``semaphore_offset``
    the same as file offsets, what uprobes and their reference counter take (-1: not loaded from the file).
    """

    provider: str
    name: str
    address: int
    offset: int
    semaphore: int
    semaphore_offset: int
    arguments: str
    machine: str

    @property
    def operands(self) -> tuple[Operand, ...]:
        """The argument string, parsed; what is not understood has kind "unknown".  Raises FormatError for an unknown machine."""
        return arguments(self.arguments, self.machine, partial=True)


class Operand(Record):
    """Where one argument is found.

    kind:
        "const"     the value is ``value``, plus the address of ``symbol`` if that is not ""
        "register"  ``bits`` bits of ``register`` (its full name: "rdi", "x0"), after a shift right by ``shift``
        "memory"    ``size`` bytes at ``register + index * scale + value``, plus the address of ``symbol`` if that is not ""
        "sum"       the value is ``register + value`` (no note says so, but it is what becomes of an address of a symbol)
        "unknown"   a place that is not understood: ``symbol`` is its text
    ``index_bits`` is 32 if only the low half of ``index`` counts, widened with its sign if ``index_signed``; ``address_bits`` is 32 where
    the address of a memory operand is computed in 32 bits (programs of i386, registers like ``%ecx``).  ``high`` is the register with the
    upper half of a value that takes two (8 bytes on i386).
    ``size`` is in bytes; ``signed`` tells how to widen it; ``register`` may be "" in memory operands.
    """

    size: int
    signed: bool
    kind: str
    value: int = 0
    register: str = ""
    index: str = ""
    scale: int = 1
    symbol: str = ""
    bits: int = 64
    shift: int = 0
    float: bool = False
    index_bits: int = 64
    index_signed: bool = False
    address_bits: int = 64
    high: str = ""

    @property
    def obstacle(self) -> str:
        """Why a BPF program cannot read the argument, "" if it can."""
        if self.kind == "unknown":
            return f"the place {self.symbol} is not understood"
        if self.size > 8:
            return f"it has {self.size} bytes"
        if self.kind in ("const", "memory") and self.symbol:
            return f"the variable {self.symbol} cannot be found"
        if self.register.startswith(("xmm", "ymm", "zmm", "v")):
            return f"it is in the floating-point register {self.register}"
        return ""

    @property
    def type(self) -> str:
        """The argument's type as the language spells it."""
        if self.float:
            return {4: "float", 8: "double"}.get(self.size, f"float{8 * self.size}")
        return f"{'' if self.signed else 'u'}int{8 * self.size}"

    @property
    def place(self) -> str:
        """Where it is, in words that are the same for all machines."""
        if self.kind == "unknown":
            return self.symbol
        if self.kind == "register":
            return (f"{self.high}:" if self.high else "") + self.register + (f" >> {self.shift}" if self.shift else "")
        terms = [term for term in (self.symbol, self.register) if term]
        if self.index:
            terms.append(f"{self.index} * {self.scale}" if self.scale > 1 else self.index)
        text = " + ".join(terms)
        if self.value or not text:
            text += (f" {'-' if self.value < 0 else '+'} {abs(self.value)}") if text else str(self.value)
        return f"[{text}]" if self.kind == "memory" else text


def markers(elf: Elf) -> tuple[Marker, ...]:
    """All markers of a file, in the order of its notes; raises FormatError on a damaged note."""
    section = elf.section(".note.stapsdt")
    if section is None:
        return ()
    base_section = elf.section(".stapsdt.base")
    base = base_section.address if base_section else 0
    order = ">" if elf.big_endian else "<"
    words = struct.Struct(order + ("QQQ" if elf.bits == 64 else "III"))
    mask = (1 << elf.bits) - 1
    found: list[Marker] = []
    for owner, kind, data in elf.notes():
        if owner != "stapsdt" or kind != 3:
            continue
        if len(found) >= _MAX_MARKERS:
            raise FormatError(elf.what, f"more than {_MAX_MARKERS} USDT markers", section.offset)
        texts = bytes(data[words.size :]).split(b"\0")
        if len(data) < words.size or len(texts) < 4:
            raise FormatError(elf.what, "a damaged USDT note", section.offset)
        address, note_base, semaphore = words.unpack_from(data)
        shift = base - note_base if base and note_base else 0
        address = address + shift & mask
        semaphore = semaphore + shift & mask if semaphore else 0
        offset = elf.offset_of(address)
        counter = elf.offset_of(semaphore) if semaphore else None
        provider, name, args = (text.decode("utf-8", "backslashreplace") for text in texts[:3])
        found.append(
            Marker(
                provider,
                name,
                address,
                -1 if offset is None else offset,
                semaphore,
                -1 if counter is None else counter,
                args,
                elf.machine_name,
            )
        )
    return tuple(found)


def arguments(text: str, machine: str, partial: bool = False) -> tuple[Operand, ...]:
    """Parses an argument string.

    Args:
        text: as in the note.
        machine: "x86_64", "i686" or "aarch64".
        partial: operands that are not understood become ones of kind "unknown", instead of an error.

    Raises:
        FormatError: an operand that is not understood, or a machine whose syntax is not known.
    """
    parse = {"x86_64": _x86_operand, "i686": _x86_operand, "aarch64": _arm64_operand}.get(machine)
    if parse is None:
        raise FormatError("USDT arguments", f"the assembler syntax of {machine or 'this machine'} is not known")
    found: list[Operand] = []
    for token in tokens(text):
        size_text, at, operand = token.partition("@")
        if not at:
            size_text, operand = "", token
        is_float = size_text.endswith("f")
        size_text = size_text.rstrip("f")
        size, signed = 8 if machine != "i686" else 4, False
        if size_text:
            value = _integer(size_text)
            if value is None or abs(value) not in (1, 2, 4, 8, 16):
                if not partial:
                    raise FormatError("USDT arguments", f"the size in {token[:60]!r} is not understood")
                operand = ""
            else:
                size, signed = abs(value), value < 0
        place = parse(operand.strip())
        if len(found) >= _MAX_ARGUMENTS:
            raise FormatError("USDT arguments", f"more than {_MAX_ARGUMENTS} arguments")
        if place is None:
            if not partial:
                raise FormatError("USDT arguments", f"{token[:60]!r} is not understood")
            place = Operand(0, False, "unknown", symbol=token[:60])
        if machine == "i686" and size == 8 and place.kind == "register" and place.bits == 32:
            place = place.replace(high=_PAIRS.get(place.register, ""), bits=64 if place.register in _PAIRS else 32)
        found.append(place.replace(size=size, signed=signed, float=is_float))
    return tuple(found)


def tokens(text: str) -> list[str]:
    """The arguments of an argument string as they are written: split at spaces that are not inside brackets ("4@[sp, 12]")."""
    if len(text) > 1 << 14:
        raise FormatError("USDT arguments", "longer than 16384 bytes")
    found, depth, current = [], 0, ""
    for char in text:
        depth += (char in "[(") - (char in "])")
        if char.isspace() and depth <= 0:
            if current:
                found.append(current)
            current = ""
        else:
            current += char
    return found + [current] if current else found


def _integer(text: str) -> int | None:
    body = text.lstrip("+-")
    if len(text) - len(body) > 1 or not 0 < len(body) <= 40 or not body.isascii():
        return None
    digits = body.lower()
    try:
        value = int(digits, 16 if digits.startswith("0x") else 8 if digits.startswith("0") and len(digits) > 1 else 10)
    except ValueError:
        return None
    return -value if text.startswith("-") else value


def _x86_registers() -> dict[str, tuple[str, int, int]]:
    """Every general register name -> (64-bit name, bits, shift)."""
    table = {"rip": ("rip", 64, 0), "eip": ("rip", 32, 0)}
    for letter in "abcd":
        full = f"r{letter}x"
        table[full] = (full, 64, 0)
        table[f"e{letter}x"] = (full, 32, 0)
        table[f"{letter}x"] = (full, 16, 0)
        table[f"{letter}l"] = (full, 8, 0)
        table[f"{letter}h"] = (full, 8, 8)
    for name in ("si", "di", "bp", "sp"):
        full = f"r{name}"
        table[full] = (full, 64, 0)
        table[f"e{name}"] = (full, 32, 0)
        table[name] = (full, 16, 0)
        table[f"{name}l"] = (full, 8, 0)
    for number in range(8, 16):
        full = f"r{number}"
        table[full] = (full, 64, 0)
        for suffix, bits in (("d", 32), ("w", 16), ("b", 8)):
            table[full + suffix] = (full, bits, 0)
    for number in range(32):
        for kind, bits in (("xmm", 128), ("ymm", 256), ("zmm", 512)):
            table[f"{kind}{number}"] = (f"{kind}{number}", bits, 0)
    return table


def _arm64_registers() -> dict[str, tuple[str, int, int]]:
    table = {"sp": ("sp", 64, 0), "wsp": ("sp", 32, 0), "lr": ("x30", 64, 0), "fp": ("x29", 64, 0), "pc": ("pc", 64, 0)}
    table |= {"xzr": ("xzr", 64, 0), "wzr": ("xzr", 32, 0)}
    for number in range(31):
        table[f"x{number}"] = (f"x{number}", 64, 0)
        table[f"w{number}"] = (f"x{number}", 32, 0)
    for number in range(32):
        for letter, bits in (("v", 128), ("q", 128), ("d", 64), ("s", 32), ("h", 16), ("b", 8)):
            table[f"{letter}{number}"] = (f"v{number}", bits, 0)
    return table


#: i386: register -> the one with the upper half of an 8-byte value, which the note does not name (the compiler's order of registers)
_PAIRS = {"rax": "rdx", "rdx": "rcx", "rcx": "rbx", "rbx": "rsi", "rsi": "rdi"}
_X86 = _x86_registers()
_ARM64 = _arm64_registers()


def _x86_operand(text: str) -> Operand | None:
    if text.startswith("$"):
        value, symbol = _displacement(text[1:])
        return None if value is None or len(text) < 2 else Operand(0, False, "const", value, symbol=symbol)
    if text.startswith("%") and "(" not in text and ":" not in text:
        found = _X86.get(text[1:])
        return found and Operand(0, False, "register", register=found[0], bits=found[1], shift=found[2])
    if ":" in text:  # a segment: thread-local storage, which no probe can resolve
        return None
    displacement, paren, rest = text.partition("(")
    value, symbol = _displacement(displacement)
    if value is None:
        return None
    if not paren:
        return Operand(0, False, "memory", value, symbol=symbol) if displacement else None
    if not rest.endswith(")"):
        return None
    parts = [part.strip() for part in rest[:-1].split(",")]
    names, wide = [], True
    for part in parts[:2]:
        known = _X86.get(part[1:]) if part.startswith("%") else ("", 0, 0) if not part else None
        if known is None or known[1] not in (0, 32, 64):
            return None
        names.append(known[0])
        wide = wide and known[1] != 32
    scale = _integer(parts[2]) if len(parts) > 2 else 1
    if scale not in (1, 2, 4, 8) or len(parts) > 3:
        return None
    register, index = names[0], names[1] if len(names) > 1 else ""
    if register == "rip" and symbol:  # sym(%rip) is the assembler's way to name an address: the counter itself is not added
        register = ""
    return Operand(0, False, "memory", value, register, index, scale, symbol, address_bits=64 if wide else 32)


def _displacement(text: str) -> tuple[int | None, str]:
    """ "-24", "counter", "counter+8", "8+counter" -> (number, symbol)."""
    text = text.strip()
    if not text:
        return 0, ""
    number = _integer(text)
    if number is not None:
        return number, ""
    total, symbol, term = 0, "", ""
    for char in text + "+":
        if char in "+-" and term.strip("+-"):
            value = _integer(term)
            if value is not None:
                total += value
            elif symbol or term.startswith("-"):
                return None, ""
            else:
                symbol = term.lstrip("+")
            term = char
        else:
            term += char
    plain = symbol.replace("_", "a").replace(".", "a").replace("$", "a").replace("@", "a")
    return (total, symbol) if plain.isalnum() and plain.isascii() else (None, "")


def _arm64_operand(text: str) -> Operand | None:
    if text.startswith("["):
        if not text.endswith("]"):
            return None
        parts = [part.strip() for part in text[1:-1].split(",")]
        base = _ARM64.get(parts[0])
        if base is None or base[1] != 64 or base[0].startswith("v") or len(parts) > 3:
            return None
        if len(parts) == 1:
            return Operand(0, False, "memory", 0, base[0])
        offset = _integer(parts[1].lstrip("#"))
        if offset is not None:
            return Operand(0, False, "memory", offset, base[0]) if len(parts) == 2 else None
        index = _ARM64.get(parts[1])
        if index is None or index[0].startswith("v"):
            return None
        word, _, amount = parts[2].partition(" ") if len(parts) == 3 else ("lsl", "", "0")
        shift = _integer(amount.strip().lstrip("#")) if amount else 0
        if shift is None or not 0 <= shift <= 4 or word not in (("lsl", "sxtx") if index[1] == 64 else ("uxtw", "sxtw")):
            return None
        return Operand(0, False, "memory", 0, base[0], index[0], 1 << shift, index_bits=index[1], index_signed=word == "sxtw")
    value = _integer(text.lstrip("#"))
    if value is not None:
        return Operand(0, False, "const", value)
    found = _ARM64.get(text)
    if found is not None and found[0] == "xzr":
        return Operand(0, False, "const", 0)
    return found and Operand(0, False, "register", register=found[0], bits=found[1], shift=found[2])
