"""Statements."""

from __future__ import annotations

from . import ast as A
from .lexer import fail
from .parser_expressions import Expressions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Statements",)

_ASSIGN = frozenset(("=", "<<=", ">>=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^="))


class Statements(Expressions):
    """Statements and blocks of them."""

    # -- statements
    def block(self) -> tuple[A.Stmt, ...]:
        self.expect("{")
        body = self.statements()
        self.expect("}")
        return body

    def statements(self) -> tuple[A.Stmt, ...]:
        body: list[A.Stmt] = []
        while not self.at("}"):
            if self.token.kind == "end":
                fail("syntax: expected '}', found end of file", self.here(), "a block that was opened with '{' is not closed")
            if self.accept(";"):
                continue
            statement = self.statement()
            body.append(statement)
            if isinstance(statement, (A.If, A.While, A.Unroll, A.ForMap, A.ForRange, A.Block)):
                continue
            if not self.accept(";") and not self.at("}"):
                ended = self.token.kind == "end"
                found = "end of file" if ended else f"'{self.token.text}'"
                where = self.lexer.span(self.last_end - 1, self.last_end) if ended else self.here()
                fail(f"syntax: expected ';' or '}}', found {found}", where, "statements are separated by ';'")
        return tuple(body)

    def statement(self) -> A.Stmt:
        start = self.token.start
        if self.token.kind == "word":
            handler: Callable[[int], A.Stmt] | None = getattr(self, f"_stmt_{self.token.text}", None)
            if handler is not None:
                return handler(start)
        elif self.at("{"):
            body = self.block()
            return A.Block(self.from_(start), body)
        value = self.expression()
        if self.token.kind == "op" and self.token.text in _ASSIGN:
            operator = self.advance()
            if not isinstance(value, (A.Var, A.Map)) and not (isinstance(value, A.Name) and value.name == "_"):
                fail("syntax: only variables and maps can be assigned", value.span, "the left side of '=' is $name, @name or @name[key]")
            right = self.expression()
            return A.Assign(self.from_(start), value, operator.text[:-1], right)
        return A.ExprStmt(self.from_(start), value)

    def _stmt_let(self, start: int) -> A.Stmt:
        self.advance()
        if self.token.kind != "var":
            self.unexpected("a variable ($name)")
        name = self.advance().text
        kind = self.type_name() if self.accept(":") else None
        value = self.expression() if self.accept("=") else None
        return A.Let(self.from_(start), name, kind, value)

    def _stmt_if(self, start: int) -> A.Stmt:
        self.advance()
        condition = self.expression()
        then = self.block()
        otherwise: tuple[A.Stmt, ...] = ()
        if self.accept("else"):
            if self.at("if"):
                otherwise = (self._stmt_if(self.token.start),)
            else:
                otherwise = self.block()
        return A.If(self.from_(start), condition, then, otherwise)

    def _stmt_while(self, start: int) -> A.Stmt:
        self.advance()
        self.expect("(")
        condition = self.expression()
        self.expect(")")
        return A.While(self.from_(start), condition, self.block())

    def _stmt_unroll(self, start: int) -> A.Stmt:
        self.advance()
        self.expect("(")
        count = self.expression()
        self.expect(")")
        return A.Unroll(self.from_(start), count, self.block())

    def _stmt_for(self, start: int) -> A.Stmt:
        self.advance()
        parenthesis = self.accept("(")
        if self.token.kind != "var":
            self.unexpected("a variable ($name)")
        name = self.advance().text
        self.expect(":", "loops look like: for ($kv : @map) { ... } or for ($i : 0..10) { ... }")
        first = self.expression()
        if self.accept(".."):
            stop = self.expression()
            if parenthesis:
                self.expect(")")
            return A.ForRange(self.from_(start), name, first, stop, self.block())
        if parenthesis:
            self.expect(")")
        return A.ForMap(self.from_(start), name, first, self.block())

    def _stmt_break(self, start: int) -> A.Stmt:
        return A.Jump(self.from_(start) if not self.advance() else self.from_(start), "break")

    def _stmt_continue(self, start: int) -> A.Stmt:
        self.advance()
        return A.Jump(self.from_(start), "continue")

    def _stmt_return(self, start: int) -> A.Stmt:
        self.advance()
        value = None if self.at(";", "}") else self.expression()
        return A.Jump(self.from_(start), "return", value)

    def _stmt_import(self, start: int) -> A.Stmt:
        self.advance()
        fail("import inside an action block is not supported", self.lexer.span(start, self.last_end))
