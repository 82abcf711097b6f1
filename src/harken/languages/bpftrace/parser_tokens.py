"""The parser and its tokens: one token is known ahead."""

from __future__ import annotations

from ...base.diagnostics import Source, Span
from . import ast as A
from .lexer import Lexer, Token, fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ("Tokens",)


class Tokens:
    """State of the parser: the lexer, the current token, and what the program has defined so far."""

    def __init__(self, source: Source, params: tuple[str, ...], defined: frozenset[str]) -> None:
        self.source = source
        self.lexer = Lexer(source)
        self.params = params
        self.token = Token("end", "", None, 0, 0)
        self.last_end = 0
        self.depth = 0
        self.in_filter = False
        self.unsupported: list[A.Unsupported] = []
        self.includes: list[A.Include] = []
        self.types: list[A.CStruct | A.CEnum] = []
        self.conditions: list[Span] = []
        self.defined = set(defined)
        #: name -> value, or where its definition stands
        self.defines: dict[str, int | tuple[int, int]] = {}

    # -- tokens
    def advance(self) -> Token:
        token = self.token
        self.last_end = token.end
        self.token = self.lexer.next()
        return token

    def prime(self) -> None:
        """Reads the first token at the lexer's position."""
        self.token = self.lexer.next()

    def save(self) -> tuple[int, Token, int]:
        return self.lexer.position, self.token, self.last_end

    def restore(self, state: tuple[int, Token, int]) -> None:
        self.lexer.position, self.token, self.last_end = state

    def at(self, *texts: str) -> bool:
        return self.token.kind in ("op", "word") and self.token.text in texts

    def accept(self, text: str) -> bool:
        if self.at(text):
            self.advance()
            return True
        return False

    def expect(self, text: str, why: str = "") -> Token:
        if not self.at(text):
            found = "end of file" if self.token.kind == "end" else f"'{self.token.text}'"
            fail(f"syntax: expected '{text}', found {found}", self.here(), why)
        return self.advance()

    def here(self) -> Span:
        return self.lexer.span(self.token.start, max(self.token.end, self.token.start + (self.token.kind != "end")))

    def from_(self, start: int) -> Span:
        return self.lexer.span(start, self.last_end)

    def unexpected(self, wanted: str) -> NoReturn:
        found = "end of file" if self.token.kind == "end" else f"'{self.token.text}'"
        fail(f"syntax: expected {wanted}, found {found}", self.here())

    def close(self, text: str) -> None:
        """Like expect, for the last token of a top-level part: does not scan what follows, which may be an attach point."""
        if not self.at(text):
            self.expect(text)
        self.last_end = self.token.end
        self.lexer.position = self.token.end
