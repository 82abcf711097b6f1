"""What return probes took from a stack, and code that is known by its end."""

from __future__ import annotations

import random
import struct

import pytest

from harken.symbols.unwind.return_probes import given_back
from harken.symbols.unwind.steps import BY_SP, FP_CHAIN, by_epilogue


def pairs(*words: int) -> bytes:
    return struct.pack(f"={len(words)}Q", *words)


@pytest.mark.parametrize(
    "word, taken, expected",
    [
        (8, (0x1008, 0x1122334455667788), pairs(1, 0x1122334455667788, 3)),
        (4, (0x100C, 0xFFFF80011223344), struct.pack("=QIIQ", 1, 2, 0x11223344, 3)),
        (8, (0xFF8, 7), pairs(1, 2, 3)),  # a frame that has returned
        (8, (0x1011, 7), pairs(1, 2, 3)),  # beyond the copy
        (8, (0x1010, 7), pairs(1, 2, 7)),
        (8, ((1 << 64) - 8, 7), pairs(1, 2, 3)),
    ],
)
def test_addresses_are_put_back(word: int, taken: tuple[int, int], expected: bytes) -> None:
    assert given_back(memoryview(pairs(1, 2, 3) + pairs(*taken)), 1, 0x1000, word) == expected


def test_numbers_that_do_not_fit() -> None:
    assert given_back(b"", 5, 0) == b"" and given_back(bytes(24), 1 << 15, 0) == b"" and given_back(bytes(24), 1, 0) == bytes(8)


@pytest.mark.parametrize(
    "code, step",
    [
        ("c3", (8, -8, 0)),
        ("f3c3", (8, -8, 0)),
        ("4881c400010000 415c 5d c5f877 c3", (0x118, -8, -16)),
        ("5d 4883c410 c3", (32, -8, -32)),
    ],
)
def test_ends_of_functions(code: str, step: tuple[int, int, int]) -> None:
    assert by_epilogue(bytes.fromhex(code)) == (BY_SP, *step, None, None)


@pytest.mark.parametrize("code", ["", "5d", "4883c4", "4883c4f8c3", "4883c404c3", "4881c4000000f0c3", "5cc3", "c9c3", "41", "4889e5c3"])
def test_what_is_no_end(code: str) -> None:
    assert by_epilogue(bytes.fromhex(code)) is FP_CHAIN


def test_any_bytes() -> None:
    source = random.Random(3)
    for _ in range(3000):
        kind, size, ra, fp, _, _ = by_epilogue(bytes(source.choice(b"\x48\x83\xc4\x08\x81\x5d\x41\x58\xc3\x10\xff") for _ in range(32)))
        assert (kind, ra) == (BY_SP, -8) and 8 <= size < 1 << 17 and -size <= fp <= 0 if kind == BY_SP else ra == fp == 0
