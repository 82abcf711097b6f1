"""A first look at a program's text, before any parser has seen it: words, tags, and what it defines itself.

It errs on the side of too much (words in dead ``#if`` branches count); where it sees too little, clang's messages tell the rest.
"""

from __future__ import annotations

import re

from ...base.record import Record

__all__ = ("Scan", "obstacle", "scan", "without_comments")

_NOISE = re.compile(r'/\*.*?(?:\*/|\Z)|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)
_WORD = re.compile(r"[A-Za-z_]\w*")
_TAG = re.compile(r"\b(?:struct|union|enum)\s+(?:__attribute__\s*\(\(.*?\)\)\s*)?([A-Za-z_]\w*)")
_DEFINED = re.compile(r"\b(struct|union|enum)\s+(?:__attribute__\s*\(\(.*?\)\)\s*)?([A-Za-z_]\w*)\s*(?::[^{;]*)?\{")
_TYPEDEF = re.compile(r"\btypedef\b")
_ENUM = re.compile(r"\benum\b[^{};()]*\{([^}]*)\}")
_FUNCTION = re.compile(r"\b([A-Za-z_]\w*)\s*\([^;{}()]*(?:\([^()]*\)[^;{}()]*)*\)\s*\{")
_MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+([A-Za-z_]\w*)", re.M)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.M)
_TRACEPOINT = re.compile(r"\bTRACEPOINT_PROBE\s*\(\s*(\w+)\s*,\s*(\w+)")
_TRACEPOINT_TAG = re.compile(r"\btracepoint__(\w+?)__(\w+)")


_BODY = re.compile(r"^[ \t]*#[ \t]*define[ \t]+([A-Za-z_]\w*)((?:[^\n\\]|\\\n|\\.)*)", re.M)
_OPERATOR = re.compile(r"[;{},]|&&|\|\||<<=?|>>=?|->|[-+*/%&|^<>=!]=|[-+*/%&|^<>=?:.\[(!~]")
_PREFIX = re.compile(r"[-+*&!~(]")
_PREFIXES = re.compile(r"(?:(?:[-+*&!~]|\([^()]*\))\s*+){2,}+")
#: Most operators in one expression, and most that stand before one operand (clang and we walk expressions recursively); most words that
#: macros may unfold to.
_MOST_OPERATORS, _MOST_PREFIXES, _MOST_WORDS = 3000, 500, 1_000_000


class Scan(Record):
    """What a text holds.

    ``owned`` as in ``declarations.Request``; ``includes`` are (quote or "<", name, start, end of the line); ``tracepoints`` are
    (category, event) pairs."""

    words: frozenset[str]
    tags: frozenset[str]
    owned: frozenset[str]
    macros: frozenset[str]
    includes: tuple[tuple[str, str, int, int], ...]
    tracepoints: frozenset[tuple[str, str]]


def without_comments(text: str) -> str:
    """The text with comments and strings blanked out, all positions kept.

    >>> without_comments('a /* b */ "c"; // d')
    'a            ;     '
    """
    return _NOISE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def scan(text: str) -> Scan:
    """Looks through a text.

    >>> found = scan('struct a { int x; }; typedef struct b { enum { C, D = 1 } e; } b_t; #include <linux/fs.h>')
    >>> sorted(found.owned), sorted(found.tags)
    (['enumerator C', 'enumerator D', 'struct a', 'struct b', 'typedef b_t'], ['a', 'b'])
    """
    includes = tuple(
        (match.group(1), match.group(2), match.start(), match.end()) for match in _INCLUDE.finditer(_blank_comments_only(text))
    )
    bare = without_comments(text)
    owned = set()
    for match in _DEFINED.finditer(bare):
        owned.add(f"{'enum' if match.group(1) == 'enum' else 'struct'} {match.group(2)}")
    for match in _ENUM.finditer(bare):
        for item in match.group(1).split(","):
            name = _WORD.match(item.strip())
            if name:
                owned.add(f"enumerator {name.group()}")
    for match in _TYPEDEF.finditer(bare):
        title = _typedef_name(bare, match.end())
        if title:
            owned.add(f"typedef {title}")
    owned.update(f"function {name}" for name in _FUNCTION.findall(bare))
    macros = frozenset(_MACRO.findall(bare))
    tracepoints = {*_TRACEPOINT.findall(bare), *_TRACEPOINT_TAG.findall(bare)}
    return Scan(frozenset(_WORD.findall(bare)), frozenset(_TAG.findall(bare)), frozenset(owned), macros, includes, frozenset(tracepoints))


def obstacle(text: str) -> str:
    """Why a text must not be given to a parser, "" if it may: expressions whose nesting would overflow the stack, macros that unfold to
    more than memory holds.

    >>> obstacle("int x = " + "1+" * 5000 + "1;")
    'an expression with more than 3000 operators'
    >>> obstacle("".join(f"#define A{n + 1} A{n} A{n}\\n" for n in range(40)))
    'the macro A20 unfolds to more than 1000000 words'
    """
    bare = without_comments(text)
    sizes: dict[str, int] = {}
    for match in _BODY.finditer(bare):
        name, body = match.groups()
        size = 0
        for word in _WORD.findall(body):
            size += sizes.get(word, 1)
            if size > _MOST_WORDS:
                return f"the macro {name} unfolds to more than {_MOST_WORDS} words"
        sizes[name] = max(size, 1)
    for match in _PREFIXES.finditer(bare):
        if len(_PREFIX.findall(match.group())) > _MOST_PREFIXES:
            return f"more than {_MOST_PREFIXES} operators before one operand"
    count = 0
    for match in _OPERATOR.finditer(bare):
        count = 0 if match.group() in ";{}," else count + 1
        if count > _MOST_OPERATORS:
            return f"an expression with more than {_MOST_OPERATORS} operators"
    return ""


def _blank_comments_only(text: str) -> str:
    return re.sub(r"/\*.*?(?:\*/|\Z)|//[^\n]*", lambda match: re.sub(r"[^\n]", " ", match.group()), text, flags=re.S)


def _typedef_name(text: str, position: int) -> str:
    """The name that a typedef gives: the last word before its semicolon, or the one in ``(*name)``."""
    depth, start = 0, position
    limit = min(len(text), position + 20000)
    while position < limit:
        char = text[position]
        if char in "{":
            depth += 1
        elif char in "}":
            depth -= 1
            if depth == 0:
                start = position + 1
        elif char == ";" and depth <= 0:
            part = text[start:position]
            pointer = re.search(r"\(\s*\*\s*(\w+)", part)
            if pointer:
                return pointer.group(1)
            part = re.sub(r"__attribute__\s*\(\(.*?\)\)|\[[^\]]*\]|\([^()]*\)\s*$", " ", part)
            words = _WORD.findall(part)
            return words[-1] if words else ""
        position += 1
    return ""
