"""Expressions, by precedence climbing."""

from __future__ import annotations

from ...base.c_operators import BINARY_LEVELS
from ...base.diagnostics import Span
from . import ast as A
from .lexer import Token, fail
from .parser_types import KEYWORDS, TYPE_NAMES, Types

__all__ = ("Expressions",)

_MAX_DEPTH = 200


class Expressions(Types):
    """Expressions, among them blocks and conditions that have a value."""

    # -- expressions
    def expression(self) -> A.Expr:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            fail(f"the expression is nested more than {_MAX_DEPTH} levels deep", self.here(), "use a variable for a part of it")
        start = self.token.start
        value = self.binary(1)
        if self.at("?:"):
            self.advance()
            value = A.Ternary(self.from_(start), value, None, self.expression())
        elif self.at("?"):
            self.advance()
            if self.accept(":"):
                value = A.Ternary(self.from_(start), value, None, self.expression())
            else:
                then = self.expression()
                self.expect(":")
                otherwise = self.expression()
                value = A.Ternary(self.from_(start), value, then, otherwise)
                value = value.replace(span=self.from_(start))
        self.depth -= 1
        return value

    def binary(self, level: int) -> A.Expr:
        start = self.token.start
        left = self.unary()
        while self.token.kind == "op":
            operator = self.token.text
            rank = BINARY_LEVELS.get(operator, 0)
            if rank < level:
                break
            if operator == "/" and self.in_filter:
                self.lexer.position, after = self.token.start, self.lexer.position
                closes = self.lexer.closes_filter()
                self.lexer.position = after
                if closes:
                    break
            self.advance()
            right = self.binary(rank + 1)
            left = A.Binary(self.from_(start), operator, left, right)
        return left

    def unary(self) -> A.Expr:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            fail(f"the expression is nested more than {_MAX_DEPTH} levels deep", self.here(), "use a variable for a part of it")
        start = self.token.start
        value: A.Expr
        if self.token.kind == "op" and self.token.text in ("-", "!", "~", "*", "&", "+", "++", "--"):
            operator = self.advance().text
            operand = self.unary()
            if operator == "-" and isinstance(operand, A.IntLit) and operand.value:
                value = A.IntLit(self.from_(start), -operand.value)
            elif operator == "+":
                value = operand
            else:
                value = A.Unary(self.from_(start), operator, operand)
        elif self.at("comptime"):
            self.advance()
            value = A.Comptime(self.from_(start), self.unary())
            value = value.replace(span=self.from_(start))
        else:
            value = self.cast(start) if self.at("(") else self.postfix(self.primary(), start)
        self.depth -= 1
        return value

    def cast(self, start: int) -> A.Expr:
        """``(type) value``, or a parenthesised expression or tuple."""
        state = self.save()
        self.advance()
        to = self.try_type()
        if to is not None and self.at(")"):
            self.advance()
            certain = to.stars or to.dims or to.name in TYPE_NAMES or " " in to.name or to.name == "tuple"
            starts = self.token.kind in ("int", "string", "var", "map", "param", "word") or self.at("(", "-", "!", "~", "*", "&")
            if certain and starts or (starts and self.token.kind != "op" and not self.at("if", "else")):
                operand = self.unary()
                return A.Cast(self.from_(start), to, operand)
        self.restore(state)
        return self.postfix(self.parenthesised(start), start)

    def parenthesised(self, start: int) -> A.Expr:
        self.expect("(")
        saved, self.in_filter = self.in_filter, False
        if self.accept(")"):
            self.in_filter = saved
            return A.Tuple(self.from_(start), ())
        state = self.save()
        if self.token.kind == "word":
            name = self.advance()
            if self.at("=") and name.text not in KEYWORDS:
                self.restore(state)
                record = self.record(start)
                self.in_filter = saved
                return record
            self.restore(state)
        items = [self.expression()]
        comma = False
        while self.accept(","):
            comma = True
            if self.at(")"):
                break
            items.append(self.expression())
        self.expect(")")
        self.in_filter = saved
        if comma:
            return A.Tuple(self.from_(start), tuple(items))
        return items[0]

    def record(self, start: int) -> A.Expr:
        names, items = [], []
        while True:
            if self.token.kind != "word":
                self.unexpected("the name of a field")
            names.append(self.advance().text)
            self.expect("=")
            items.append(self.expression())
            if not self.accept(","):
                break
        self.expect(")")
        return A.RecordLit(self.from_(start), tuple(names), tuple(items))

    def primary(self) -> A.Expr:
        token = self.token
        kind, span = token.kind, self.here()
        if kind == "int":
            self.advance()
            return A.IntLit(span, token.value)
        if kind == "string":
            self.advance()
            text = token.value
            while self.token.kind == "string":
                text += self.advance().value
            return A.StrLit(self.from_(token.start), text)
        if kind == "var":
            self.advance()
            return A.Var(span, token.value)
        if kind == "map":
            self.advance()
            if self.at("["):
                self.advance()
                saved, self.in_filter = self.in_filter, False
                keys = [self.expression()]
                while self.accept(","):
                    keys.append(self.expression())
                self.expect("]")
                self.in_filter = saved
                return A.Map(self.from_(token.start), token.value, tuple(keys))
            return A.Map(span, token.value)
        if kind == "param":
            self.advance()
            return A.Positional(span, 0 if token.value == "#" else token.value)
        if kind == "word":
            return self.word(token, span)
        if self.at("{"):
            return self.block_expression()
        self.unexpected("an expression")

    def word(self, token: Token, span: Span) -> A.Expr:
        text = token.text
        if text in ("true", "false"):
            self.advance()
            return A.BoolLit(span, text == "true")
        if text == "if":
            return self.if_expression()
        if text in ("sizeof", "offsetof", "typeof", "typeinfo"):
            return self.type_query(token)
        if text in KEYWORDS:
            self.unexpected("an expression")
        if text in self.defines:
            return self.defined_constant(text)
        self.advance()
        if not self.at("("):
            return A.Name(span, text)
        self.advance()
        saved, self.in_filter = self.in_filter, False
        args: list[A.Expr] = []
        while not self.at(")"):
            args.append(self.call_argument())
            if not self.accept(","):
                break
        self.expect(")")
        self.in_filter = saved
        return A.Call(self.from_(token.start), text, tuple(args))

    def defined_constant(self, name: str) -> A.Expr:
        """What a ``#define`` stands for, read where it is written."""
        meaning = self.defines[name]
        here = self.here()
        if isinstance(meaning, int):
            self.advance()
            return A.IntLit(here, meaning)
        state = self.save()
        saved, self.in_filter = self.in_filter, False
        # a name inside of its own definition is not replaced again
        del self.defines[name]
        self.lexer.position = meaning[0]
        self.prime()
        value = self.expression()
        whole = self.last_end <= meaning[1] and (self.token.kind == "end" or self.token.start >= meaning[1])
        self.defines[name] = meaning
        self.restore(state)
        self.in_filter = saved
        if not whole:
            fail(f"the definition of {name} is not an expression", self.lexer.span(*meaning))
        self.advance()
        return value

    def call_argument(self) -> A.Expr:
        return self.expression()

    def if_expression(self) -> A.Expr:
        start = self.advance().start
        condition = self.expression()
        then = self.block_expression()
        self.expect("else")
        otherwise = self.if_expression() if self.at("if") else self.block_expression()
        return A.IfExpr(self.from_(start), condition, then, otherwise)

    def block_expression(self) -> A.Expr:
        start = self.expect("{").start
        body: list[A.Stmt] = []
        value: A.Expr | None = None
        while not self.at("}"):
            if self.accept(";"):
                continue
            statement = self.statement()
            if isinstance(statement, A.ExprStmt) and self.at("}"):
                value = statement.value
                break
            body.append(statement)
            if not isinstance(statement, (A.If, A.While, A.Unroll, A.ForMap, A.ForRange, A.Block)) and not self.at("}"):
                self.expect(";")
        self.expect("}")
        return A.BlockExpr(self.from_(start), tuple(body), value)

    def type_query(self, token: Token) -> A.Expr:
        self.advance()
        self.expect("(")
        state = self.save()
        of: A.TypeName | A.Expr | None = self.try_type()
        sure = isinstance(of, A.TypeName) and (of.stars or of.dims or of.name in TYPE_NAMES or " " in of.name)
        if of is None or not self.at(")", ",") or (not sure and token.text != "offsetof" and self.is_expression(of)):
            self.restore(state)
            of = self.expression()
        value: A.Expr
        if token.text == "offsetof":
            self.expect(",")
            path = ""
            while self.token.kind == "word":
                path += self.advance().text
                if not self.accept("."):
                    break
                path += "."
            if not path or path.endswith("."):
                self.unexpected("the name of a field")
            self.expect(")")
            return A.Offsetof(self.from_(token.start), of, path)
        self.expect(")")
        if token.text == "sizeof":
            value = A.Sizeof(self.from_(token.start), of)
        else:
            value = A.Typeof(self.from_(token.start), token.text, of)
        return value

    @staticmethod
    def is_expression(of: A.TypeName | A.Expr | None) -> bool:
        """A lone word in sizeof() that is no known type name: an expression such as a built-in, unless it looks like a typedef."""
        return isinstance(of, A.TypeName) and not of.name.endswith("_t")

    def postfix(self, value: A.Expr, start: int) -> A.Expr:
        while self.token.kind == "op":
            if self.at(".", "->"):
                arrow = self.advance().text == "->"
                if self.token.kind not in ("word", "int"):
                    self.unexpected("the name of a field")
                name = self.advance()
                value = A.Member(self.from_(start), value, name.text, arrow, self.lexer.span(name.start, name.end))
            elif self.at("["):
                self.advance()
                saved, self.in_filter = self.in_filter, False
                index = self.expression()
                self.expect("]")
                self.in_filter = saved
                value = A.Index(self.from_(start), value, index)
            elif self.at("++", "--") and isinstance(value, (A.Var, A.Map)):
                operator = self.advance().text
                value = A.Unary(self.from_(start), operator, value, True)
            else:
                break
        return value

    def statement(self) -> A.Stmt:
        """A statement; blocks that have a value contain some."""
        raise NotImplementedError
