"""Words, numbers, strings and attach points."""

from __future__ import annotations

import pytest

from harken.base.diagnostics import Source
from harken.base.errors import SourceError
from harken.languages.bpftrace.lexer import Lexer


def values(text: str) -> list[object]:
    lexer = Lexer(Source("stdin", text))
    found = []
    while (token := lexer.next()).kind != "end":
        found.append(token.value)
    return found


def test_numbers() -> None:
    assert values("0 10 0x1F 017 1e6 1_000 5u 7ULL 0xffu 100ms 3s 2us 1h 1d 5m 9ns") == [
        0, 10, 31, 15, 10**6, 1000, 5, 7, 255, 10**8, 3 * 10**9, 2000, 3600 * 10**9, 86400 * 10**9, 300 * 10**9, 9,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["0x", "09", "1z", "5parsecs", "18446744073709551616", "1e", '"a', '"\\q"', '"\\x"', "/* a", "`", "$", "$1a"]
)
def test_wrong_words(text: str) -> None:
    with pytest.raises(SourceError):
        values(text)


def test_strings() -> None:
    assert values(r'"a\n\t\\\"" "\x41\101\0" "é"') == ['a\n\t\\"', "AA\0", "é"]
    assert values(r'"\xff"') == ["\udcff"]


def test_longest_operator_wins() -> None:
    assert values("a<<=b>>c->d++ +e..f") == ["a", "<<=", "b", ">>", "c", "->", "d", "++", "+", "e", "..", "f"]


def test_comments() -> None:
    assert values("a // b\n/* c\n */ d / e") == ["a", "d", "/", "e"]


def test_names() -> None:
    assert values("$x @ @y $1 $# pid") == ["$x", "@", "@y", 1, "#", "pid"]


@pytest.mark.parametrize(
    "text, points, rest",
    [
        ("BEGIN {", ["BEGIN"], "{"),
        ("uprobe:/bin/bash:readline{", ["uprobe:/bin/bash:readline"], "{"),
        ("t:a:b,\n  t:a:c /pid/ {", ["t:a:b", "t:a:c"], "/pid/ {"),
        ('uprobe:"/opt/my app":f /1/ {', ['uprobe:"/opt/my app":f'], "/1/ {"),
        ("kprobe:vfs_*//1/{", ["kprobe:vfs_*//1/"], "{"),
        ("usdt:/usr/lib/x.so:a:b , END /x/{", ["usdt:/usr/lib/x.so:a:b", "END"], "/x/{"),
    ],
)
def test_attach_points(text: str, points: list[str], rest: str) -> None:
    lexer = Lexer(Source("stdin", text))
    assert [point for point, _, _ in lexer.attach_points()] == points
    assert text[lexer.position :] == rest


@pytest.mark.parametrize("digits", ["9" * 100_000, "0" + "7" * 100_000, "0x" + "f" * 100_000])
def test_hostile_numbers(digits: str) -> None:
    with pytest.raises(SourceError) as caught:
        values(digits)
    (diagnostic,) = caught.value.diagnostics
    assert "does not fit 64 bits" in diagnostic.message and len(diagnostic.message) < 200
