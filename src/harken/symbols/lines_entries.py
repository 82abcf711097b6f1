"""Which of a line's places in a function have to be probed to see each time that the line is reached.

Compilers cut the code of a line into pieces and put instructions of other lines between them; sometimes they copy it into two ways through
the function.  A probe on the first piece alone misses the second copy, probes on all of them count one pass several times.  What has to be
probed are the pieces that can be reached from the function's start without passing another piece of the line.  For that the function's
jumps are followed: those to fixed places are exact; what is reached by tables of addresses may be any piece of code that nothing else
leads to.  Code that only exceptions lead to counts if nothing else of the line is reached.

x86-64 and arm64; of other machines, and of functions of more than 256 KiB, the first piece is taken.
"""

from __future__ import annotations

from bisect import bisect_left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    #: address, address behind, target of the jump or -1, whether what follows is reached, whether it jumps to a computed address
    Jump = tuple[int, int, int, bool, bool]

__all__ = ("LARGEST", "reached_first")

#: Bytes of a function that is looked at.
LARGEST = 1 << 18
_PREFIXES = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")
#: ret, iret, int3, hlt
_ENDS = frozenset(b"\xc2\xc3\xca\xcb\xcf\xcc\xf4")


def reached_first(machine: str, code: Sequence[tuple[int, bytes]], places: Sequence[int]) -> list[int]:
    """The places that can be reached without passing another one, in order.

    Args:
        machine: "x86_64" or "aarch64"; others have no answer but the first place.
        code: (address, bytes) of the function's parts; it starts with the first.
        places: sorted addresses of instructions in it.
    """
    scan = {"x86_64": _x86_jumps, "aarch64": _arm64_jumps}.get(machine)
    if scan is None or len(places) < 2 or sum(len(data) for _, data in code) > LARGEST:
        return list(places[:1])
    parts = [(start, start + len(data), *scan(start, data)) for start, data in code]
    targets = {jump[2] for part in parts for jump in part[2]}
    orphans = [start for part in parts for start in part[3] if start not in targets]
    orphans += [part[0] for part in parts[1:] if part[0] not in targets]
    entry = code[0][0]
    return _walk(parts, [entry], orphans, places) or _walk(parts, orphans, orphans, places) or list(places[:1])


def _walk(parts: list[tuple[int, int, list[Jump], list[int]]], starts: list[int], computed: list[int], places: Sequence[int]) -> list[int]:
    parts = sorted(parts, key=lambda part: part[0])
    lows = [part[0] for part in parts]
    heads = [[jump[0] for jump in part[2]] for part in parts]
    left, seen, found = list(starts), set(starts), set()
    anywhere = False  # whether all that is reached by computed jumps has been added
    while left:
        address = left.pop()
        number = bisect_left(lows, address + 1) - 1
        if number < 0 or address >= parts[number][1]:
            continue
        jumps = parts[number][2]
        place = bisect_left(heads[number], address)
        jump = jumps[place] if place < len(jumps) else None
        candidate = bisect_left(places, address)
        if candidate < len(places) and places[candidate] <= (jump[0] if jump else parts[number][1] - 1):
            found.add(places[candidate])
            continue
        if jump is None:
            continue
        onward = [jump[2]] if jump[2] >= 0 else []
        onward += [jump[1]] if jump[3] else []
        if jump[4] and not anywhere:
            onward += computed
            anywhere = True
        for following in onward:
            if following not in seen:
                seen.add(following)
                left.append(following)
    return sorted(found)


def _x86_jumps(start: int, data: bytes) -> tuple[list[Jump], list[int]]:
    """The jumps of a piece of code, and where code begins that nothing falls into."""
    from ..formats.x86_length import length

    jumps: list[Jump] = []
    begins: list[int] = []
    place, fallen = 0, True
    while place < len(data):
        size = length(data, place)
        if size <= 0:
            break
        at, behind = place, place + size
        while at < behind - 1 and (data[at] in _PREFIXES or data[at] & 0xF0 == 0x40):
            at += 1
        code = data[at]
        second = data[at + 1] if at + 1 < behind else 0
        if not fallen:
            if code in (0x90, 0xCC) or (code == 0x0F and second == 0x1F):  # what fills up to the next piece
                place = behind
                continue
            begins.append(start + place)
            fallen = True
        target, computed, ends = -1, False, False
        if code & 0xF0 == 0x70 or 0xE0 <= code <= 0xE3 or code == 0xEB:
            target, ends = start + behind + _signed(data[behind - 1 : behind]), code == 0xEB
        elif code == 0xE9 or (code == 0x0F and second & 0xF0 == 0x80):
            target, ends = start + behind + _signed(data[behind - 4 : behind]), code == 0xE9
        elif code == 0xFF and second >> 3 & 7 in (4, 5):
            computed = ends = True
        elif code in _ENDS or (code == 0x0F and second == 0x0B):
            ends = True
        if target >= 0 or ends:
            jumps.append((start + place, start + behind, target, not ends, computed))
            fallen = not ends
        place = behind
    return jumps, begins


def _arm64_jumps(start: int, data: bytes) -> tuple[list[Jump], list[int]]:
    jumps: list[Jump] = []
    begins: list[int] = []
    fallen = True
    for place in range(0, len(data) - 3, 4):
        word = int.from_bytes(data[place : place + 4], "little")
        if not fallen:
            if word in (0xD503201F, 0):
                continue
            begins.append(start + place)
            fallen = True
        address, target, ends, computed = start + place, -1, False, False
        if word & 0xFC000000 == 0x14000000:
            target, ends = address + _field(word, 0, 26), True
        elif word & 0xFF000000 == 0x54000000 or word & 0x7E000000 == 0x34000000:
            target = address + _field(word, 5, 19)
        elif word & 0x7E000000 == 0x36000000:
            target = address + _field(word, 5, 14)
        elif word & 0xFE000000 == 0xD6000000 and word >> 21 & 15 in (0, 2, 4):  # br, ret, eret, and their forms with signed addresses
            ends, computed = True, word >> 21 & 15 == 0
        elif word & 0xFFE0001F == 0xD4200000 or word >> 16 == 0:  # brk, udf
            ends = True
        if target >= 0 or ends:
            jumps.append((address, address + 4, target, not ends, computed))
            fallen = not ends
    return jumps, begins


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _field(word: int, low: int, bits: int) -> int:
    """A signed field of an instruction that counts words."""
    value = word >> low & (1 << bits) - 1
    return (value - (1 << bits) if value >> bits - 1 else value) * 4
