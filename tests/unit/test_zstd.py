"""The zstd decoder in Python: against the library where it is installed, against bytes that were written down, and against nonsense."""

from __future__ import annotations

import random

import pytest

from harken.base.errors import FormatError
from harken.formats.zstd import expand

#: "the quick brown fox " 40 times and numbers, by zstd 1.5 (a block with Huffman literals and sequences).
TEXT = b"".join(b"the quick brown fox %d jumps over the lazy dog %d\n" % (n, n * n) for n in range(40))


def inputs():
    chance = random.Random(5)
    yield from (b"", b"x", b"x" * 100_000, TEXT, bytes(range(256)) * 50)
    for size in (10, 1000, 40_000, 150_000):
        yield bytes(chance.choice(b"abcdefgh \n") for _ in range(size))
        yield chance.randbytes(size)
        yield bytes(min(255, int(chance.expovariate(0.05))) for _ in range(size))
        yield b"".join(b"%d task-%d\n" % (n, n % 7) for n in range(size // 12))


@pytest.mark.parametrize("level", [-5, 1, 3, 9, 19])
def test_what_the_library_compresses(level):
    zstandard = pytest.importorskip("zstandard")
    for data in inputs():
        for checksum in (False, True):
            packed = zstandard.ZstdCompressor(level=level, write_checksum=checksum, write_content_size=checksum).compress(data)
            assert expand(packed, len(data)) == data
    assert expand(packed + packed, 2 * len(data)) == data + data


def test_limits_hold():
    zstandard = pytest.importorskip("zstandard")
    packed = zstandard.ZstdCompressor().compress(bytes(10_000_000))
    with pytest.raises(FormatError, match="more than 1000 bytes"):
        expand(packed, 1000)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b"\x28\xb5\x2f\xfd",
        bytes.fromhex("28b52ffd0100"),
        bytes.fromhex("28b52ffd2003ffffff"),
        bytes.fromhex("28b52ffd20031f0000"),
    ],
)
def test_what_is_not_zstd(data):
    with pytest.raises(FormatError, match="zstd data"):
        expand(data, 1000)


def test_blocks_by_hand():
    raw = bytes.fromhex("28b52ffd2003190000") + b"abc"
    assert expand(raw, 3) == b"abc"
    repeated = bytes.fromhex("28b52ffd2005") + (5 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"z"
    assert expand(repeated, 5) == b"zzzzz"
    skipped = bytes.fromhex("502a4d18") + (4).to_bytes(4, "little") + b"skip"
    assert expand(skipped + raw + skipped, 3) == b"abc"


def test_mutants_end_with_an_error_or_a_result():
    zstandard = pytest.importorskip("zstandard")
    chance = random.Random(9)
    packed = zstandard.ZstdCompressor(level=19).compress(TEXT * 3)
    for _ in range(1500):
        data = bytearray(packed)
        for _ in range(chance.choice((1, 2, 6))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)) :]
        try:
            assert len(expand(bytes(data), len(TEXT) * 4)) <= len(TEXT) * 4
        except FormatError:
            pass
