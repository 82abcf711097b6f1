"""symbols.jit: perf maps, jitdump files, memory that is used again."""

from __future__ import annotations

import os
import random
import struct

import pytest

from harken.base.errors import FormatError
from harken.kernel.kernel import live
from harken.symbols.jit import JitCode, parse_jitdump, parse_perf_map, read_file


def test_perf_map_lines():
    text = b"7f00 10 Function:~a b.js:1\n0x8000 0x20 hex\n9000 0 empty\nnot a line\n-1 5 x\n8100 10\n8200 8 \xff\xfe\r\n"
    assert parse_perf_map(text) == [(0x7F00, 16, "Function:~a b.js:1"), (0x8000, 32, "hex"), (0x8200, 8, "\\xff\\xfe")]


def test_the_latest_code_wins_against_a_map_of_bytes():
    random.seed(2)
    for _ in range(100):
        entries, plain = [], {}
        for number in range(random.randrange(1, 20)):
            start, size = random.randrange(80), random.randrange(1, 30)
            entries.append((start, size, f"f{number}"))
            plain.update({address: (f"f{number}", address - start, start, size) for address in range(start, start + size)})
        code = JitCode(entries)
        for address in range(120):
            assert code.lookup(address) == plain.get(address)
            low, high, _ = code.piece(address)
            assert low <= address < high and {code.lookup(a) and code.lookup(a)[0] for a in range(low, min(high, 120))} == {
                plain[address][0] if address in plain else None
            }


def jitdump(order: str) -> bytes:
    def record(kind: int, body: bytes) -> bytes:
        return struct.pack(order + "IIQ", kind, 16 + len(body), 1) + body

    def load(address: int, size: int, index: int, name: bytes) -> bytes:
        return record(0, struct.pack(order + "IIQQQQ", 42, 42, address, address, size, index) + name + b"\0" + bytes(size))

    data = struct.pack(order + "IIIIIIQQ", 0x4A695444, 1, 40, 62, 0, 42, 0, 0)
    debug = struct.pack(order + "QQ", 0x1000, 2) + struct.pack(order + "Qii", 0x1000, 7, 0) + b"a.js\0"
    debug += struct.pack(order + "Qii", 0x1008, 9, 0) + b"\xff\0"
    data += record(2, debug) + load(0x1000, 16, 1, b"first") + load(0x2000, 32, 2, b"second")
    data += record(1, struct.pack(order + "IIQQQQQ", 42, 42, 0x3000, 0x1000, 0x3000, 16, 1)) + record(99, b"later kinds are passed over")
    return data


@pytest.mark.parametrize("order", ["<", ">"])
def test_jitdump(order):
    code = parse_jitdump(jitdump(order))
    assert code.lookup(0x1004) == ("first", 4, 0x1000, 16) and code.lookup(0x201F)[0] == "second"
    assert code.lookup(0x300F) == ("first", 15, 0x3000, 16) and code.lookup(0x2020) is None
    assert code.line(0x1007) == ("a.js", 7) and code.line(0x100F) == ("a.js", 9) and code.line(0x2000) is None


def test_jitdump_that_is_cut_or_damaged():
    data = jitdump("<")
    for length in range(40, len(data)):
        parse_jitdump(data[:length])
    random.seed(4)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(3):
            damaged[random.randrange(40, len(data))] = random.randrange(256)
        parse_jitdump(bytes(damaged)).lookup(0x1004)
    for wrong in (b"", b"x" * 100, data[:39]):
        with pytest.raises(FormatError):
            parse_jitdump(wrong)


def test_only_the_owner_names_its_code(tmp_path):
    kernel = live()
    path = tmp_path / "perf-1.map"
    path.write_bytes(b"1000 10 f\n")
    assert read_file(kernel, str(path), (os.getuid(),)) == b"1000 10 f\n"
    if os.getuid() == 0:
        os.chown(path, 12345, 12345)
        assert read_file(kernel, str(path), (54321,)) is None
        assert read_file(kernel, str(path), (12345,)) == b"1000 10 f\n"
    os.mkfifo(tmp_path / "fifo")
    assert read_file(kernel, str(tmp_path / "fifo"), (os.getuid(),)) is None, "and nothing waits for a writer"
    assert read_file(kernel, str(tmp_path), (os.getuid(),)) is None
    assert read_file(kernel, str(tmp_path / "missing"), (os.getuid(),)) is None
