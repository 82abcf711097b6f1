"""Texts of many records at once are those of the records one by one."""

from __future__ import annotations

import random
import struct

import pytest

from harken.formats.event_format import parse
from harken.formats.print_fmt import Env, compile_print_fmt

np = pytest.importorskip("numpy")
from harken.formats.print_fmt_rows import NotBulk, decimal, hexadecimal, rows, table_rows  # noqa: E402

FORMAT = """name: busy
ID: 7
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
	field:unsigned char common_preempt_count;	offset:3;	size:1;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:char comm[8];	offset:8;	size:8;	signed:0;
	field:int a;	offset:16;	size:4;	signed:1;
	field:u32 b;	offset:20;	size:4;	signed:0;
	field:long c;	offset:24;	size:8;	signed:1;
	field:unsigned long d;	offset:32;	size:8;	signed:0;
	field:u8 e;	offset:40;	size:1;	signed:0;
	field:s16 f;	offset:42;	size:2;	signed:1;
	field:__data_loc char[] name;	offset:44;	size:4;	signed:0;

print fmt: """

FORMS = [
    '"%s %d %u %ld %lu %x %lx", REC->comm, REC->a, REC->b, REC->c, REC->d, REC->b, REC->d',
    '"%03d %5d %08x %-12s|", REC->e, REC->e, REC->b, REC->comm',
    '"%s", __get_str(name)',
    '"%d,%d %lu", (unsigned int) (REC->b >> 20), (unsigned int) (REC->b & ((1U << 20) - 1)), REC->d - REC->c',
    '"%s%s", __print_flags(REC->e, "|", { 1, "ONE" }, { 2, "TWO" }, { 64, "X" }), REC->a & 256 ? "+" : ""',
    '"%s %d", __print_symbolic(REC->f, { -1, "minus" }, { 0, "none" }), REC->a < 0 ? REC->a : REC->f',
    '"%d %d", REC->a > REC->c, REC->d == 0 && REC->b != 3',
    '"%s", REC->d ? (REC->e > 100 ? "big" : "small") : "zero"',
    '"%p %lld", REC->d, (long long)REC->c * 2',
    '"%c %6d", REC->e % 26 + 65, REC->a',
    '"100%% %d", (int)REC->d',
]
NUMBERS = [0, 1, 2, 9, 10, 99, 4095, 9999, 10000, 65535, 65536, 10**8 - 1, 10**8, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32]
NUMBERS += [10**16 - 1, 10**16, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


def records(count):
    rng = random.Random(5)
    data, starts, ends = b"xyz", [], []
    for _ in range(count):
        name = bytes(rng.choice(b"abc\0\xff") for _ in range(rng.randrange(0, 9)))
        comm = rng.choice((b"sh", b"a b", b"12345678", b"x\0junk", b""))
        numbers = [rng.choice(NUMBERS) if rng.random() < 0.5 else rng.getrandbits(64) >> rng.randrange(64) for _ in range(6)]
        a, b, c, d, e, f = (number & (1 << size) - 1 for number, size in zip(numbers, (32, 32, 64, 64, 8, 16)))
        body = struct.pack("<HBBi8sIIQQBxHI", 7, 0, 0, 1, comm, a, b, c, d, e, f, len(name) << 16 | 48) + name
        starts.append(len(data))
        data += body
        ends.append(len(data))
        data += bytes(rng.randrange(3))
    return data, starts, ends


DATA = records(700)


@pytest.mark.parametrize("dialect", ["kernel", "trace-cmd", "trace-cmd-3.1"])
@pytest.mark.parametrize("form", FORMS)
def test_the_same_as_one_by_one(form, dialect):
    data, starts, ends = DATA
    renderer = compile_print_fmt(parse(FORMAT + form, "test"), Env("<", dialect=dialect))
    assert not renderer.problem
    wanted = [renderer(data, start, end - start) for start, end in zip(starts, ends)]
    bulk = renderer.bulk()
    assert bulk is not None
    pieces = bulk.matrices(data, np.array(starts), np.array(ends), np)
    lines = [b"".join([piece if isinstance(piece, bytes) else piece[at].tobytes() for piece in pieces]) for at in range(len(starts))]
    assert [line.replace(b"\0", b"").decode("utf-8", "surrogateescape") for line in lines] == wanted


def test_numbers():
    unsigned = np.array(NUMBERS, dtype="u8")
    signed = np.array([number - (1 << 64) if number >> 63 else number for number in NUMBERS] + [-1, -10000, -(1 << 63)], dtype="i8")

    def texts(matrix):
        return [row.tobytes().replace(b"\0", b"").decode() for row in matrix]

    assert texts(decimal(unsigned, np)) == [str(number) for number in NUMBERS]
    assert texts(hexadecimal(unsigned, np)) == [f"{number:x}" for number in NUMBERS]
    assert texts(decimal(signed, np)) == [str(number) for number in signed.tolist()]
    assert texts(table_rows(unsigned, str, np)) == [str(number) for number in NUMBERS]


def test_what_is_left_to_the_slow_way():
    with pytest.raises(NotBulk):
        rows([b"a\0b"], np)
    for form in ('"%*d", REC->a, REC->b', '"two\\nlines"'):
        assert compile_print_fmt(parse(FORMAT + form, "test"), Env("<")).bulk() is None
