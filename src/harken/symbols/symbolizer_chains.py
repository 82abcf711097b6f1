"""Call chains in bulk: their words, the pieces that long ones share, and addresses as text."""

from __future__ import annotations

import sys
from struct import pack

from ..abi import perf_event as abi
from ..formats.perf_data_columns import NATIVE_ORDER, words_of
from ..formats.perf_data_records import CONTEXT_MAX

__all__ = ("cut_long", "words_of_chains", "hexadecimal", "END_OF_CHAIN")

_KERNEL = 1 << 63
#: A word that ends a chain: no address of a processor, and told from those of the kernel and of processes by its highest byte.
END_OF_CHAIN = 1 << 56 | 1
_END = END_OF_CHAIN.to_bytes(8, sys.byteorder)
_USER = abi.PERF_CONTEXT_USER.to_bytes(8, sys.byteorder)
_HIGHEST = 7 if sys.byteorder == "little" else 0
#: What highest bytes stand for: addresses of the kernel have the first bit, those of processes have not, what ends a chain is neither.
_HALVES = bytes([255 if value > 127 else 1 if value == 1 else 0 for value in range(256)])
#: Bytes from which on a chain is cut, and of its pieces.
_LONG, _PIECE = 128, 64


def cut_long(keys: list[bytes]) -> tuple[list[bytes], dict[bytes, list[bytes]]]:
    """Cuts long chains into pieces, which many of them share: a deep stack changes at its inner end.

    Returns:
        All chains that stay whole, and all pieces; and the pieces of the others.

    Example:
        >>> stack = _USER + bytes(128)
        >>> whole, cut = cut_long([bytes(16), bytes(8) + stack, _USER + b"y" * 7 + bytes(129)])
        >>> len(whole), [[len(piece) for piece in pieces] for pieces in cut.values()]
        (4, [[8, 64, 64], [16, 64, 64]])
    """
    cut: dict[bytes, list[bytes]] = {}
    for key in [key for key in keys if len(key) > _LONG]:
        kernel, mark, user = key.partition(_USER)
        # only where nothing but addresses of the process follows: what a word means depends on the one before it
        if len(user) >= _LONG and not len(kernel) & 7 and not user[_HIGHEST::8].strip(b"\0"):
            first = len(user) % _PIECE
            pieces = [kernel, mark + user[:first], *[user[place : place + _PIECE] for place in range(first, len(user), _PIECE)]]
            cut[key] = [piece for piece in pieces if piece and piece != mark]
    if not cut:
        return keys, cut
    whole = [key for key in keys if key not in cut]
    return list(dict.fromkeys([*whole, *[piece for pieces in cut.values() for piece in pieces]])), cut


def words_of_chains(keys: list[bytes]) -> list[int]:
    """The words of call chains, with END_OF_CHAIN before and behind each of them.

    What looks like an address of the kernel behind one of the process, or behind the mark that those follow, is a stray value of a frame
    pointer; it comes as ``~value``.

    Example:
        >>> kernel, user = abi.PERF_CONTEXT_KERNEL, abi.PERF_CONTEXT_USER
        >>> words = words_of_chains([pack("=6Q", kernel, 1 << 63, user, 1 << 63, 5, 1 << 63), pack("=2Q", user, 6)])
        >>> words[2] == 1 << 63, words[4] == words[6] == ~(1 << 63), words[0] == words[7] == END_OF_CHAIN, words[9:-1] == [6]
        (True, True, True, True)
    """
    blob = _END.join([b"", *keys, b""])
    words: list[int] = words_of(blob, NATIVE_ORDER).tolist()
    highest = bytearray(blob[_HIGHEST::8].translate(_HALVES))
    place = -1
    for _ in range(words.count(abi.PERF_CONTEXT_USER)):
        place = words.index(abi.PERF_CONTEXT_USER, place + 1)
        highest[place] = 0
    place = highest.find(b"\0\xff")
    while place >= 0:
        place += 1
        while place < len(words) and _KERNEL <= words[place] < CONTEXT_MAX:
            words[place] = ~words[place]
            place += 1
        place = highest.find(b"\0\xff", place)
    return words


def hexadecimal(addresses: list[int], before: bytes) -> list[bytes]:
    """Addresses in hexadecimal, right-justified in 16 columns behind ``before``; formatting them one by one takes three times as long.

    Example:
        >>> hexadecimal([1, 1 << 44, 1 << 63], b" ")
        [b'                1', b'     100000000000', b' 8000000000000000']
    """
    if not addresses:
        return []
    text = b"\n" + pack(f">{len(addresses)}Q", *addresses).hex("\n", 8).encode()
    start = b"\n" + before
    if max(addresses) >> 48:
        text = text.replace(b"\n", start)
        for zeros in (4, 2, 1):
            text = text.replace(start + b"0" * zeros, start + b" " * zeros)
    else:  # as nearly all are
        text = text.replace(b"\n0000", start + b"    ")
    for zeros in (4, 4, 2, 1):
        if b" 0" not in text:
            break
        text = text.replace(b" " + b"0" * zeros, b" " * (1 + zeros))
    return text.split(b"\n")[1:]
