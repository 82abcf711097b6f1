"""Recursive descent with precedence climbing: text to tree.

The whole grammar of the language is read, also what harken does not run yet (macros, imports, C definitions): such parts become
``Unsupported`` nodes and are refused by name, which helps a user more than "syntax error".

Example:
    >>> program = parse(Source("stdin", 'kprobe:vfs_read,kprobe:vfs_write /pid == 1/ { @[comm] = count(); }'))
    >>> [point.text for point in program.probes[0].points]
    ['kprobe:vfs_read', 'kprobe:vfs_write']
"""

from __future__ import annotations

from ...base.diagnostics import Source, Span
from . import ast as A
from .headers import PREDEFINED
from .lexer import fail
from .parser_definitions import Definitions
from .parser_types import TYPE_NAMES

__all__ = (
    "parse",
    "TYPE_NAMES",
)


def parse(source: Source, params: tuple[str, ...] = (), defined: frozenset[str] = PREDEFINED) -> A.Program:
    """Parses a program; ``params`` replace $1 ... inside attach points, ``defined`` are names that ``#ifdef`` finds.

    Raises:
        SourceError: at the first place that does not fit the grammar.
    """
    return _Parser(source, params, defined).program()


class _Parser(Definitions):
    """A whole program."""

    # -- top level
    def program(self) -> A.Program:
        probes: list[A.Probe] = []
        settings: list[A.Setting] = []
        maps: list[A.MapDecl] = []
        lexer = self.lexer
        if lexer.text.startswith("#!"):
            end = lexer.text.find("\n")
            lexer.position = len(lexer.text) if end < 0 else end
        while True:
            lexer.skip()
            if lexer.position >= len(lexer.text):
                break
            if lexer.text[lexer.position] == "#":
                self.preprocessor()
                continue
            if lexer.text[lexer.position] == ";":
                lexer.position += 1
                continue
            start = lexer.position
            word = self.peek_word()
            if word in ("struct", "union", "enum", "typedef"):
                self.c_definition(word, start)
            elif word == "config" and self.followed_by("="):
                settings += self.config()
            elif word == "import":
                self.import_()
            elif word in ("macro", "fn"):
                self.macro(word, start)
            elif word == "let":
                maps.append(self.map_declaration())
            else:
                probes.append(self.probe())
        if self.conditions:
            fail("syntax: the condition is not closed", self.conditions[-1], "close it with #endif")
        if not probes:
            end_of_text = lexer.span(max(0, len(lexer.text) - 1), len(lexer.text))
            if not self.unsupported:
                fail("syntax: the program has no probes", end_of_text, "a program looks like: tracepoint:syscalls:sys_enter_openat { ... }")
        return A.Program(
            self.source, tuple(probes), tuple(settings), tuple(maps), tuple(self.unsupported), tuple(self.includes), tuple(self.types)
        )

    # -- action blocks
    def probe(self) -> A.Probe:
        lexer = self.lexer
        name, start = self.probe_name(), lexer.position
        points = []
        for text, begin, end in lexer.attach_points():
            points.append(self.attach_point(text, begin, end))
        lexer.skip()
        condition = None
        if lexer.text.startswith("/", lexer.position):
            opened = lexer.position
            lexer.position += 1
            self.in_filter = True
            self.prime()
            if self.token.text == "/" and self.token.kind == "op":
                fail(
                    "syntax: the filter is empty",
                    lexer.span(opened, self.token.end),
                    "write a condition between the slashes, or leave them out",
                )
            condition = self.expression()
            self.in_filter = False
            if not self.at("/"):
                found = "end of file" if self.token.kind == "end" else f"'{self.token.text}'"
                fail(
                    f"syntax: expected '/' at the end of the filter, found {found}",
                    self.here(),
                    "a filter looks like /pid == 1234/ and is followed by { ... }",
                )
            lexer.position = self.token.end
            lexer.skip()
        if not lexer.text.startswith("{", lexer.position):
            where = lexer.position
            found = "end of file" if where >= len(lexer.text) else f"'{lexer.text[where]}'"
            fail(f"syntax: expected '{{', found {found}", lexer.span(where, where + 1), "the probe's action is missing: { ... }")
        self.prime()
        body = self.block_until_close()
        return A.Probe(self.from_(start), tuple(points), condition, body, name)

    def probe_name(self) -> str:
        lexer = self.lexer
        word = self.peek_word()
        after = lexer.position + len(word)
        if word and lexer.text.startswith("=", after) and not lexer.text.startswith("==", after):
            lexer.position = after + 1
            lexer.skip()
            return word
        return ""

    def attach_point(self, text: str, start: int, end: int) -> A.AttachPoint:
        span = self.lexer.span(start, end)
        if "$" in text:
            text = self.replace_params(text, span)
        words = _split(text)
        return A.AttachPoint(span, words[0], tuple(words[1:]), text)

    def replace_params(self, text: str, span: Span) -> str:
        out, i = "", 0
        while i < len(text):
            if text[i] != "$":
                out += text[i]
                i += 1
                continue
            j = i + 1
            while j < len(text) and text[j].isdecimal():
                j += 1
            if j == i + 1:
                if text[j : j + 1] in ("/", ")", "|"):  # the end of a name in a regular expression
                    out, i = out + "$", j
                    continue
                fail("syntax: expected a number after '$' in the attach point", span)
            n = int(text[i + 1 : j])
            if not 0 < n <= len(self.params):
                fail(
                    f"positional parameter ${n} is used in the attach point but was not given",
                    span,
                    "give it after the program: harken -e '...' VALUE",
                )
            out += self.params[n - 1]
            i = j
        return out


def _split(text: str) -> list[str]:
    """An attach point at its colons; quoted parts keep theirs."""
    words, word, quoted = [], "", False
    for c in text:
        if c == '"':
            quoted = not quoted
        elif c == ":" and not quoted:
            words.append(word)
            word = ""
        else:
            word += c
    words.append(word)
    return words
