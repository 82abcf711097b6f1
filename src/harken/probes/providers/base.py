"""What the providers share: wildcards, near names, numbers, and the errors of a probe that does not parse.

Wildcards are bpftrace's: ``*`` stands for any run of characters, nothing else is special.  Matching is linear in pattern and name, whatever
the pattern, and near names are found among 100,000 candidates in a bounded time.
"""

from __future__ import annotations

from ...base.diagnostics import error, nearest
from ...base.errors import SourceError
from ...base.glob import is_glob, matches
from ...base.glob import select as matcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import NoReturn

    from ...base.diagnostics import Span

__all__ = ("either", "fail", "is_glob", "matcher", "matches", "near_names", "count", "number", "unquote", "require", "MACHINE_ARGUMENTS")

#: How many arguments of a function are in registers, so that arg0 ... exist (kernel: arch/*/include/asm/ptrace.h).
MACHINE_ARGUMENTS = {"x86_64": 6, "aarch64": 8}

#: Candidates that ``near_names`` compares in full.
_FEW = 500


def fail(message: str, span: Span | None, hint: str = "") -> NoReturn:
    """Raises the SourceError of one diagnostic."""
    raise SourceError((error(message, span, hint),))


def either(names: Sequence[str]) -> str:
    """A choice in words.

    >>> either(["a"]), either(["a", "b", "c"])
    ('a', 'a, b or c')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def unquote(word: str) -> str:
    """A word without its quotes.

    >>> unquote('"/opt/a:b"'), unquote("plain")
    ('/opt/a:b', 'plain')
    """
    if len(word) > 1 and word[0] == word[-1] == '"':
        return word[1:-1].replace('\\"', '"')
    return word


def near_names(name: str, candidates: Iterable[str], limit: int = 3) -> list[str]:
    """Names that look like ``name``, best first.

    The full comparison is slow (50 us a pair), so of many candidates only those that share most three-letter pieces are compared.

    >>> near_names("do_sys_open", ["vfs_read", "do_sys_openat2", "tcp_sendmsg"])
    ['do_sys_openat2']
    """
    wanted = name.replace("*", "").lower()[:128]
    if not wanted:
        return []
    slack = max(4, len(wanted) // 2)
    low, high = len(wanted) - slack, len(wanted) + slack
    close = [candidate for candidate in candidates if low <= len(candidate) <= high]
    if len(close) > _FEW:
        close = _sharing(wanted, close)
    return nearest(name, dict.fromkeys(close), limit)


def _sharing(wanted: str, candidates: list[str]) -> list[str]:
    """The candidates that share most short pieces with a word."""
    width = 3 if len(wanted) > 4 else 2
    pieces = list({wanted[i : i + width] for i in range(max(1, len(wanted) - width + 1))})[:24]
    scored = []
    for candidate in candidates:
        text = candidate.lower()
        score = 0
        for piece in pieces:
            if piece in text:
                score += 1
        if score * 4 >= len(pieces):
            scored.append((-score, abs(len(candidate) - len(wanted)), candidate))
    scored.sort()
    return [candidate for _, _, candidate in scored[:_FEW]]


def require(kind: str, words: Sequence[str], allowed: tuple[int, ...], span: Span | None, example: str) -> None:
    """Refuses a probe with the wrong number of parts."""
    if len(words) in allowed and all(words):
        return
    if len(words) in allowed:
        fail(f"{kind} probe has an empty part", span, f"write {example}")
    numbers = " or ".join(str(n) for n in allowed)
    plural = "" if allowed[-1] == 1 else "s"
    fail(f"{kind} probe type requires {numbers} argument{plural}, found {len(words)}", span, f"write {example}")


def number(word: str, span: Span | None, what: str, example: str) -> int:
    """An unsigned 64-bit integer: decimal, hexadecimal or octal, with ``_`` between digits and ``1e6``.

    >>> number("0x10", None, "offset", ""), number("1e6", None, "count", ""), number("010", None, "offset", "")
    (16, 1000000, 8)
    """
    text = word.replace("_", "")
    value = -1
    if 0 < len(text) < 24 and text.isascii():
        base, _, exponent = text.partition("e")
        if text[:2] in ("0x", "0X"):
            if all(c in "0123456789abcdefABCDEF" for c in text[2:]) and text[2:]:
                value = int(text, 16)
        elif exponent:
            if base.isdigit() and exponent.isdigit() and int(exponent) < 20:
                value = int(base) * 10 ** int(exponent)
        elif text.isdigit():
            octal = len(text) > 1 and text[0] == "0" and all(c in "01234567" for c in text)
            value = int(text, 8 if octal else 10)
    if not 0 <= value < 1 << 64:
        fail(f"{what} must be a number, not '{word}'", span, f"write {example}" if example else "")
    return value


def count(word: str, span: Span | None, what: str, example: str) -> int:
    """A positive ``number``."""
    value = number(word, span, what, example)
    if not value:
        fail(f"{what} must be greater than 0", span, f"write {example}" if example else "")
    return value
