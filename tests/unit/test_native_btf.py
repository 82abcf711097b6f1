"""The accelerator walks BTF as plain Python does, damaged ones too."""

from __future__ import annotations

import random
from typing import Any

import pytest

from harken import native
from harken.base.errors import FormatError
from harken.formats.btf_index import Index, build
from harken.formats.btf_layout import name_offsets, split, walk
from harken.formats.btf_scan import Scan
from harken.testing.btf_builder import BtfBuilder

pytestmark = pytest.mark.skipif(native.library() is None, reason="the accelerator is not built")


def blob(chance: random.Random) -> bytes:
    """Some types of most kinds."""
    builder = BtfBuilder()
    number = builder.integer("int", 4)
    for at in range(chance.randrange(30)):
        kind = chance.choice((1, 2, 6, 4, 5, 3, 8, 19))
        values = {f"E{at}_{value}": value for value in range(chance.randrange(4))}
        members = [(f"m{place}", number, 32 * place) for place in range(chance.randrange(5))]
        if kind == 1:
            builder.integer(f"i{at}", chance.choice((1, 2, 4, 8)))
        elif kind == 2:
            builder.ptr(number)
        elif kind == 3:
            builder.array(number, 4, number)
        elif kind in (4, 5):
            builder.struct(f"s{at}", 4 * len(members), members, kind)
        elif kind == 6:
            builder.enum(f"e{at}", 4, values)
        elif kind == 19:
            builder.enum64(f"e{at}", values)
        else:
            builder.typedef(f"t{at}", number)
    return builder.build()


def found(data: bytes) -> tuple[Any, ...]:
    try:
        sections = split(data)
        positions, kinds = walk(sections)
        scan = Scan(data)
        some = list(scan.named(b"int")), list(scan.enumerators(b"E1_0"))
        names = [b"int", b"E1_0", b"s2", b"", b"e3", b"nowhere", b"a\0b", b"t4", *(b"E%d_1" % at for at in range(30)), b"i1"]
        scan.expect(names)
        more = [(sorted(scan.named(name)), sorted(scan.enumerators(name))) for name in names]
        return list(positions), kinds, name_offsets(sections, positions), some, more, made(data)
    except FormatError as error:
        return (str(error),)


def made(data: bytes) -> bytes | str:
    try:
        return build(data, copy=True)
    except FormatError as error:
        return str(error)


def both(data: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    fast = found(data)
    with monkeypatch.context() as without:
        without.setattr(native, "_found", [None])
        assert found(data) == fast
    return fast


def test_types_are_walked_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from harken.native.btf import walk as fast

    chance, called = random.Random(4), []
    with monkeypatch.context() as counted:
        counted.setattr("harken.native.btf.walk", lambda *what: called.append(result := fast(*what)) or result)
        both(blob(chance), monkeypatch)
    assert any(result is not None for result in called)
    wrong = unnamed = 0
    for _ in range(150):
        data = bytearray(blob(chance))
        assert len(both(bytes(data), monkeypatch)) == 6
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
        seen = both(bytes(data), monkeypatch)
        wrong += len(seen) == 1
        unnamed += isinstance(seen[-1], str) and len(seen) == 6
        both(bytes(data[: chance.randrange(len(data))]), monkeypatch)
    assert wrong > 30 and unnamed > 5


def test_indexes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    chance, called = random.Random(5), []
    from harken.native.btf import find, keys

    monkeypatch.setattr("harken.native.btf.keys", lambda *what: called.append(result := keys(*what)) or result)
    monkeypatch.setattr("harken.native.btf.find", lambda *what: called.append(result := find(*what)) or result)
    for size in (0, 1, 3, 40):
        builder = BtfBuilder()
        for at in range(size):
            builder.enum(f"name {chance.random()}", 4, {f"{at} {chance.random()}": value for value in range(9)})
            builder.integer(f"name {at % 7}", 4)
        data = builder.build()
        assert len(both(data, monkeypatch)) == 6
        if size:
            index, scan = Index(build(data)), Scan(data)
            scan.expect([b"name 0", b"name 1"])
            assert list(scan.named(b"name 0")) == list(index.named(b"name 0")) == [2 * at for at in range(1, size + 1) if not (at - 1) % 7]
    assert sum(result is not None for result in called) > 8


def test_a_name_that_many_types_have_is_looked_for_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = BtfBuilder()
    for _ in range(500):
        builder.integer("same", 4)
    scan = Scan(builder.build())
    scan.expect([b"same"])
    assert list(scan.named(b"same")) == list(range(1, 501))


def test_words_outside_are_refused() -> None:
    from array import array

    from harken.native.btf import words_at

    assert words_at(bytes(16), 0, 4, array("I", [4])) is None
    assert words_at(bytes(16), 0, 5, array("I", [0])) is None
    taken = words_at(bytes(15) + b"\1", 0, 4, array("I", [3, 0]))
    assert taken is not None and taken.tobytes() == b"\0\0\0\1" + bytes(4)
