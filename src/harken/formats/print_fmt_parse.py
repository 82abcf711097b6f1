"""Parser of the ``print fmt`` line of event formats: a C string literal, then C expressions.

The text is what the preprocessor made of a ``TP_printk()``: macros are expanded, ``sizeof``, casts, enumerators that nobody resolved and
GNU statement expressions are still in it.  ``parse`` gives the format string and one tree per argument.  Trees are plain tuples, the
first element says what they are:

=======================================  ==========================================================================
``("num", value, size, signed)``         a number of so many bytes; a character has a fifth element "char"
``("str", text)``                        string literals, adjacent ones joined, escapes resolved
``("field", name)``                      ``REC->name``
``("name", identifier)``                 an enumerator, a variable, a local of a statement expression
``("call", name, arguments)``            ``__print_flags(...)``, ``sizeof``, ...; a type as argument is ``("type", words)``
``("cast", words, tree)``                words of the type in order, ``*`` among them
``("unary", operator, tree)``            ``- + ! ~ & *``
``("binary", operator, left, right)``
``("cond", test, then, else)``
``("index", array, index)``
``("member", tree, name)``
``("list", trees)``                      ``{ a, "b" }``
``("block", statements)``                ``({ ...; })``; statements are ``("declare", words, name, is array, tree or None)``,
                                         ``("assign", target, tree)`` or trees; the last one is the value
=======================================  ==========================================================================

Example:
    >>> parse('"%d %s", REC->a + 1, __get_str(b)')
    ('%d %s', [('binary', '+', ('field', 'a'), ('num', 1, 4, True)), ('call', '__get_str', [('name', 'b')])])
"""

from __future__ import annotations

import re

from ..base.c_operators import BINARY_LEVELS
from ..base.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Tree = tuple[Any, ...]

__all__ = ("Parser", "parse", "type_words", "unescape")

#: Longest print fmt of a known kernel: 30 kB; an event's whole format text is limited to 1 MB by ``event_format``.
_MAX_TOKENS = 200_000
_MAX_DEPTH = 120

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<char>L?'(?:[^'\\]|\\.)+')
    | (?P<number>0[xX][0-9a-fA-F]+[uUlL]*|[0-9]+[uUlL]*)
    | (?P<name>[A-Za-z_$][A-Za-z0-9_$]*)
    | (?P<op><<=|>>=|->|<<|>>|<=|>=|==|!=|&&|\|\||\+\+|--|[-+*/%&|^!~<>?:=()\[\]{},.;])
    )""",
    re.VERBOSE | re.DOTALL,
)

_WORDS = frozenset(
    "unsigned signed long short int char void bool _Bool float double const volatile struct union enum static "
    "__user __rcu __force __percpu uint ulong ushort "
    "size_t ssize_t u8 u16 u32 u64 s8 s16 s32 s64 __u8 __u16 __u32 __u64 __s8 __s16 __s32 __s64 typeof __typeof__".split()
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b"}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.DOTALL)


def unescape(text: str) -> str:
    """The characters of a C string literal's inside.

    Example:
        >>> unescape(r"a\\n\\x41\\101\\"")
        'a\\nAA"'
    """
    if "\\" not in text:
        return text

    def one(match: re.Match[str]) -> str:
        code = match.group(1)
        if code[0] == "x" and len(code) > 1:
            return chr(int(code[1:], 16))
        if code[0] in "01234567":
            return chr(int(code, 8) & 255)
        return _ESCAPES.get(code, code)

    return _ESCAPE.sub(one, text)


def type_words(words: tuple[str, ...]) -> bool:
    """Whether words in parentheses can be a type."""
    names = [word for word in words if word != "*"]
    if not names:
        return False
    if "*" in words or len(names) > 1 or names[0] in _WORDS:
        return words[0] != "*"
    return names[0].endswith("_t")


def parse(text: str) -> tuple[str, list[Tree]]:
    """Reads the text behind ``print fmt:``.

    Raises:
        FormatError: it is not a string and C expressions.
    """
    return Parser(text).whole()


class Parser:
    """Recursive descent over the tokens; ``whole`` is what ``parse`` does."""

    def __init__(self, text: str) -> None:
        self.source = text
        self.tokens: list[tuple[str, str, int]] = []
        position, size = 0, len(text)
        while True:
            match = _TOKEN.match(text, position)
            if match is None:
                if text[position:].strip():
                    raise FormatError("print fmt", f"{text[position : position + 20].strip()!r} is not C", position)
                break
            position = match.end()
            self.tokens.append((str(match.lastgroup), match.group(str(match.lastgroup)), match.start()))
            if len(self.tokens) > _MAX_TOKENS:
                raise FormatError("print fmt", f"more than {_MAX_TOKENS} tokens", position)
        self.tokens.append(("end", "", size))
        self.place = 0
        self.depth = 0
        self.kind, self.text, _ = self.tokens[0]

    def whole(self) -> tuple[str, list[Tree]]:
        fmt = self.strings()
        arguments = []
        while self.take(","):
            arguments.append(self.conditional())
        if self.kind != "end":
            self.fail(f"{self.text[:20]!r} after the arguments")
        return fmt, arguments

    def enter(self) -> None:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self.fail(f"nested deeper than {_MAX_DEPTH}")

    def go_to(self, place: int) -> None:
        self.place = place
        self.kind, self.text, _ = self.tokens[place]

    def fail(self, problem: str) -> Any:
        raise FormatError("print fmt", problem, self.tokens[self.place][2])

    def next(self) -> str:
        text = self.text
        self.place += 1
        self.kind, self.text, _ = self.tokens[min(self.place, len(self.tokens) - 1)]
        return text

    def peek(self, ahead: int = 1) -> tuple[str, str]:
        kind, text, _ = self.tokens[min(self.place + ahead, len(self.tokens) - 1)]
        return kind, text

    def at(self, text: str) -> bool:
        return self.kind == "op" and self.text == text

    def take(self, text: str) -> bool:
        if self.at(text):
            self.next()
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.take(text):
            self.fail(f"expected {text!r}, found {self.text[:20]!r}")

    def strings(self) -> str:
        if self.kind != "string":
            self.fail("does not start with a string")
        parts = []
        while self.kind == "string":
            parts.append(unescape(self.next()[1:-1]))
        return "".join(parts)

    def conditional(self) -> Tree:
        self.enter()
        test = self.binary(1)
        if self.take("?"):
            then = test if self.at(":") else self.conditional()
            self.expect(":")
            test = ("cond", test, then, self.conditional())
        self.depth -= 1
        return test

    def binary(self, level: int) -> Tree:
        left = self.unary()
        while self.kind == "op" and BINARY_LEVELS.get(self.text, 0) >= level:
            operator = self.next()
            left = ("binary", operator, left, self.binary(BINARY_LEVELS[operator] + 1))
        return left

    def unary(self) -> Tree:
        self.enter()
        if self.kind == "op" and self.text in ("-", "+", "!", "~", "&", "*"):
            operator = self.next()
            found: Tree = ("unary", operator, self.unary())
        elif self.at("(") and (words := self.type_in_parentheses()):
            found = ("cast", words, self.unary())
        else:
            found = self.postfix()
        self.depth -= 1
        return found

    def type_in_parentheses(self, operand: bool = True) -> tuple[str, ...]:
        """The words of a type in parentheses here, consumed; () and nothing consumed if it is an expression."""
        ahead = 1
        words = []
        while True:
            kind, text = self.peek(ahead)
            if kind == "name" or (kind == "op" and text == "*"):
                words.append(text)
                ahead += 1
                continue
            break
        if (kind, text) != ("op", ")") or not type_words(tuple(words)):
            # a lone unknown word in parentheses is a type if what follows can only be its operand
            follows = self.peek(ahead + 1)
            operand_follows = follows[0] in ("name", "number", "string", "char") or follows == ("op", "(")
            if (kind, text) != ("op", ")") or len(words) != 1 or words[0] in ("REC", "*") or not operand_follows or not operand:
                return ()
        if operand:
            follows = self.peek(ahead + 1)
            if follows[0] == "end" or (follows[0] == "op" and follows[1] not in ("(", "-", "+", "!", "~", "&", "*", "{")):
                return ()
        for _ in range(ahead + 1):
            self.next()
        return tuple(words)

    def postfix(self) -> Tree:
        tree = self.primary()
        while True:
            if self.at("[") and self.kind == "op":
                self.next()
                tree = ("index", tree, self.conditional())
                self.expect("]")
            elif self.at("->") or self.at("."):
                self.next()
                if self.kind != "name":
                    self.fail("expected the name of a member")
                name = self.next()
                tree = ("field", name) if tree == ("name", "REC") else ("member", tree, name)
            else:
                return tree

    def primary(self) -> Tree:
        kind, text = self.kind, self.text
        if kind == "number":
            self.next()
            return _number(text)
        if kind == "string":
            return ("str", self.strings())
        if kind == "char":
            self.next()
            inside = unescape(text[text.index("'") + 1 : -1])
            return ("num", ord(inside[0]) if inside else 0, 4, True, "char")
        if kind == "name":
            self.next()
            if text in ("sizeof", "__alignof__") and self.at("("):
                words = self.type_in_parentheses(operand=False)
                if words and (len(words) > 1 or words[0] != "REC"):
                    return ("call", text, [("type", words)])
            if self.take("("):
                return ("call", text, self.arguments())
            return ("name", text)
        if self.take("{"):
            items: list[Tree] = []
            while not self.at("}"):
                items.append(self.conditional())
                if not self.take(","):
                    break
            self.expect("}")
            return ("list", items)
        if self.take("("):
            if self.at("{"):
                self.next()
                tree: Tree = ("block", self.statements())
            else:
                tree = self.conditional()
            self.expect(")")
            return tree
        return self.fail(f"expected a value, found {text[:20]!r}")  # type: ignore[no-any-return]

    def arguments(self) -> list[Tree]:
        found: list[Tree] = []
        while not self.at(")"):
            found.append(self.conditional())
            if not self.take(","):
                break
        self.expect(")")
        return found

    def statements(self) -> list[Tree]:
        found: list[Tree] = []
        while not self.at("}"):
            if self.kind == "end":
                self.fail("a block without end")
            if self.take(";"):
                continue
            found.append(self.statement())
            if not self.at("}"):
                self.expect(";")
        self.expect("}")
        return found

    def statement(self) -> Tree:
        ahead = 0
        words = []
        while self.peek(ahead)[0] == "name" or self.peek(ahead) == ("op", "*"):
            words.append(self.peek(ahead)[1])
            ahead += 1
        names = [word for word in words if word != "*"]
        if len(names) > 1 and self.peek(ahead)[1] in ("=", ";", "["):
            for _ in range(ahead):
                self.next()
            is_array = False
            while self.take("["):
                is_array = True
                if not self.at("]"):
                    self.conditional()
                self.expect("]")
            value = self.conditional() if self.take("=") else None
            return ("declare", tuple(words[:-1]), words[-1], is_array, value)
        tree = self.conditional()
        if self.take("="):
            return ("assign", tree, self.conditional())
        return tree


def _number(text: str) -> Tree:
    digits = text.rstrip("uUlL")
    suffix = text[len(digits) :].lower()
    if digits[:2] in ("0x", "0X"):
        value, decimal = int(digits, 16), False
    elif digits[0] == "0" and len(digits) > 1:
        value, decimal = int(digits, 8) if digits.strip("01234567") == "" else 0, False
    else:
        value, decimal = int(digits) if len(digits) < 40 else 0, True
    value &= 0xFFFFFFFFFFFFFFFF
    unsigned = "u" in suffix
    size = 8 if "l" in suffix else 4
    if size == 4 and (value >> 32 or (value >> 31 and not unsigned and decimal)):
        size = 8
    if not unsigned and not decimal and value >> (8 * size - 1):
        unsigned = True
    return ("num", value, size, not unsigned)
