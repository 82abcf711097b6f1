"""Recursive descent with precedence climbing: text to tree.

The whole grammar of the language is read, also what harken does not run yet (macros, imports, C definitions): such parts become
``Unsupported`` nodes and are refused by name, which helps a user more than "syntax error".

Example:
    >>> program = parse(Source("stdin", 'kprobe:vfs_read,kprobe:vfs_write /pid == 1/ { @[comm] = count(); }'))
    >>> [point.text for point in program.probes[0].points]
    ['kprobe:vfs_read', 'kprobe:vfs_write']
"""

from __future__ import annotations

from ...base.diagnostics import Source, Span, nearest
from ...base.errors import SourceError
from . import ast as A
from .headers import CONSTANTS, PREDEFINED
from .lexer import Lexer, Token, fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

__all__ = ("parse", "BINARY_LEVELS", "TYPE_NAMES")

BINARY_LEVELS: dict[str, int] = {
    "||": 1,
    "&&": 2,
    "|": 3,
    "^": 4,
    "&": 5,
    "==": 6,
    "!=": 6,
    "<": 7,
    ">": 7,
    "<=": 7,
    ">=": 7,
    "<<": 8,
    ">>": 8,
    "+": 9,
    "-": 9,
    "*": 10,
    "/": 10,
    "%": 10,
}
_ASSIGN = frozenset(("=", "<<=", ">>=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^="))
TYPE_NAMES = frozenset(
    "bool char int8 int16 int32 int64 uint8 uint16 uint32 uint64 int uint void string buffer inet mac_address timestamp "
    "ksym_t usym_t kstack_t ustack_t username cgroup_path_t macaddr_t strerror_t "
    "count_t sum_t min_t max_t avg_t stats_t hist_t lhist_t tseries_t".split()
)
_KEYWORDS = frozenset(
    "break comptime config continue else fn for if import let macro offsetof return sizeof typeof typeinfo unroll while".split()
)
_MAX_DEPTH = 200
_MAX_TYPE_DEPTH = 8


def parse(source: Source, params: tuple[str, ...] = (), defined: frozenset[str] = PREDEFINED) -> A.Program:
    """Parses a program; ``params`` replace $1 ... inside attach points, ``defined`` are names that ``#ifdef`` finds.

    Raises:
        SourceError: at the first place that does not fit the grammar.
    """
    return _Parser(source, params, defined).program()


class _Parser:
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

    def peek_word(self) -> str:
        text, i = self.lexer.text, self.lexer.position
        end = i
        while end < len(text) and (text[end].isalnum() or text[end] == "_"):
            end += 1
        return text[i:end]

    def followed_by(self, char: str) -> bool:
        lexer = self.lexer
        saved = lexer.position
        lexer.position += len(self.peek_word())
        lexer.skip()
        answer = lexer.text.startswith(char, lexer.position)
        lexer.position = saved
        return answer

    def preprocessor(self) -> None:
        """One line of C's preprocessor: conditions on names, includes, and defines of constants."""
        start, end = self.lexer.position, self.line_end()
        span = self.lexer.span(start, end)
        words = self.lexer.text[start:end].replace("\\\n", " ").split(None, 2)
        directive = words[0] if words[0] != "#" else "".join(words[:2])
        name = words[1] if len(words) > 1 else ""
        self.lexer.position = end
        if directive in ("#ifdef", "#ifndef"):
            self.conditions.append(span)
            if (name in self.defined) != (directive == "#ifdef"):
                self.skip_branch(span)
        elif directive in ("#else", "#endif") and self.conditions:
            if directive == "#else":
                self.skip_branch(span)
            else:
                self.conditions.pop()
        elif directive == "#include" and name:
            header = name.strip('<>"')
            self.includes.append(A.Include(span, header))
            for constant, value in CONSTANTS.get(header, {}).items():
                self.defines.setdefault(constant, value)
        elif directive == "#define" and name and "(" not in name:
            self.defined.add(name)
            body = self.lexer.text.find(name, start) + len(name)
            if len(words) > 2:
                self.defines[name] = (body, end)
        elif directive == "#undef":
            self.defined.discard(name)
            self.defines.pop(name, None)
        elif directive not in ("#pragma", "#line"):
            self.unsupported.append(A.Unsupported(span, f"C preprocessor line {directive}"))

    def line_end(self) -> int:
        """Where the line ends, continuation lines included."""
        text, end = self.lexer.text, self.lexer.position
        while True:
            newline = text.find("\n", end)
            if newline < 0:
                return len(text)
            if text[newline - 1] != "\\":
                return newline
            end = newline + 1

    def skip_branch(self, opened: Span) -> None:
        """Passes over lines up to the ``#else`` or ``#endif`` of the condition that does not hold."""
        text, depth = self.lexer.text, 0
        while self.lexer.position < len(text):
            self.lexer.position = min(self.line_end() + 1, len(text))
            line = text[self.lexer.position : self.line_end()].lstrip()
            if line.startswith("#if"):
                depth += 1
            elif line.startswith("#endif"):
                if not depth:
                    self.conditions.pop()
                    self.lexer.position = self.line_end()
                    return
                depth -= 1
            elif line.startswith("#else") and not depth:
                self.lexer.position = self.line_end()
                return
        fail("syntax: the condition is not closed", opened, "close it with #endif")

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

    def c_definition(self, word: str, start: int) -> None:
        """A C definition up to its ``;`` or, for ``struct x { ... }`` without one, its ``}``."""
        self.prime()
        if word != "typedef":
            state = self.save()
            found = self.c_enum(start) if word == "enum" else self.c_struct(word, start)
            if found is not None:
                self.types.append(found)
                self.lexer.position = self.last_end
                return
            self.restore(state)
        depth = 0
        while self.token.kind != "end":
            token = self.advance()
            if token.text == "{" and token.kind == "op":
                depth += 1
            elif token.text == "}" and token.kind == "op":
                depth -= 1
                if depth == 0 and word != "typedef" and not self.at(";", "__attribute__"):
                    break
            elif token.text == ";" and depth == 0:
                break
        self.lexer.position = self.last_end
        self.unsupported.append(A.Unsupported(self.lexer.span(start, self.last_end), f"definition of C types ({word})"))

    def c_struct(self, kind: str, start: int) -> A.CStruct | None:
        """A struct of plain members; None for what is not understood (nested definitions, function pointers)."""
        self.advance()
        if self.token.kind != "word":
            return None
        name = self.advance().text
        members: list[A.CMember] = []
        if not self.accept("{"):
            return None
        while not self.at("}"):
            begin = self.token.start
            base = self.try_type()
            if base is None or base.dims or self.token.kind != "word":
                return None
            while True:
                if self.token.kind != "word":
                    return None
                member = self.advance().text
                dims: list[int] = []
                bits = 0
                while self.accept("["):
                    if self.token.kind != "int":
                        return None
                    dims.append(self.advance().value)
                    self.expect("]")
                if self.accept(":"):
                    if self.token.kind != "int":
                        return None
                    bits = self.advance().value
                members.append(A.CMember(self.from_(begin), base, member, tuple(dims), bits))
                if not self.accept(","):
                    break
            if not self.accept(";"):
                return None
        # only the brace is consumed for sure: a probe may follow, which has other words
        self.last_end = self.lexer.position = self.token.end
        packed = self.after_definition()
        return A.CStruct(self.lexer.span(start, self.last_end), kind, name, tuple(members), packed)

    def after_definition(self) -> bool:
        """The attribute and semicolon behind a definition, if they are there; whether it is packed."""
        lexer, packed = self.lexer, False
        lexer.skip()
        if lexer.text.startswith("__attribute__", lexer.position):
            self.prime()
            begin = self.token.start
            while self.token.kind != "end" and not self.at(";"):
                self.advance()
            packed = "packed" in lexer.text[begin : self.last_end]
            lexer.position = self.last_end
            lexer.skip()
        if lexer.text.startswith(";", lexer.position):
            lexer.position += 1
            self.last_end = lexer.position
        return packed

    def c_enum(self, start: int) -> A.CEnum | None:
        self.advance()
        name = self.advance().text if self.token.kind == "word" else ""
        if not self.accept("{"):
            return None
        values: list[tuple[str, int]] = []
        number = 0
        while not self.at("}"):
            if self.token.kind != "word":
                return None
            constant = self.advance().text
            if self.accept("="):
                sign = -1 if self.accept("-") else 1
                if self.token.kind != "int":
                    return None
                number = sign * self.advance().value
            values.append((constant, number))
            number += 1
            if not self.accept(","):
                break
        if not self.at("}"):
            return None
        self.last_end = self.lexer.position = self.token.end
        self.after_definition()
        return A.CEnum(self.lexer.span(start, self.last_end), name, tuple(values))

    def config(self) -> list[A.Setting]:
        self.prime()
        self.advance()
        self.expect("=")
        self.expect("{")
        settings = []
        while not self.at("}"):
            if self.token.kind != "word":
                self.unexpected("the name of an option")
            key = self.advance()
            self.expect("=")
            token = self.token
            if token.kind not in ("int", "string", "word"):
                self.unexpected("a number, a string or a word")
            self.advance()
            value = token.value if token.text not in ("true", "false") else token.text == "true"
            settings.append(A.Setting(self.lexer.span(key.start, token.end), key.text, value))
            if not self.accept(";") and not self.accept(","):
                break
        self.close("}")
        return settings

    def close(self, text: str) -> None:
        """Like expect, for the last token of a top-level part: does not scan what follows, which may be an attach point."""
        if not self.at(text):
            self.expect(text)
        self.last_end = self.token.end
        self.lexer.position = self.token.end

    def import_(self) -> None:
        self.prime()
        start = self.advance().start
        if self.token.kind != "string":
            self.unexpected("a file name in quotes")
        self.last_end = self.token.end
        self.lexer.position = self.token.end
        self.unsupported.append(A.Unsupported(self.from_(start), "import"))

    def macro(self, word: str, start: int) -> None:
        self.prime()
        self.advance()
        if self.token.kind != "word":
            self.unexpected("the macro's name")
        name = self.advance().text
        self.expect("(")
        while not self.at(")"):
            if self.token.kind == "end":
                self.expect(")")
            self.advance()
        self.advance()
        self.block_until_close()
        self.unsupported.append(A.Unsupported(self.from_(start), f"{'macro' if word == 'macro' else 'function'} {name}"))

    def map_declaration(self) -> A.MapDecl:
        self.prime()
        start = self.advance().start
        if self.token.kind != "map":
            self.unexpected("a map (variables are declared inside action blocks)")
        name = self.advance().text
        self.expect("=")
        if self.token.kind != "word":
            self.unexpected("hash, lruhash, percpuhash or percpulruhash")
        kind = self.advance().text
        self.expect("(")
        if self.token.kind != "int":
            self.unexpected("the number of keys")
        entries = self.advance().value
        self.expect(")")
        span = self.from_(start)
        self.close(";")
        return A.MapDecl(span, name, kind, entries)

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

    def block_until_close(self) -> tuple[A.Stmt, ...]:
        """The current token is ``{``; afterwards the lexer stands right behind the matching ``}`` with no token scanned."""
        self.expect("{")
        body = self.statements()
        self.close("}")
        return body

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
            if self.at("=") and name.text not in _KEYWORDS:
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
        if text in _KEYWORDS:
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

    # -- types
    def type_name(self) -> A.TypeName:
        kind = self.try_type()
        if kind is None:
            known = nearest(self.token.text, TYPE_NAMES) if self.token.kind == "word" else []
            fail(
                f"syntax: expected a type, found '{self.token.text}'",
                self.here(),
                f"did you mean {known[0]}?" if known else "types look like uint32, string, struct task_struct * or uint8[16]",
            )
        return kind

    def try_type(self, depth: int = 0) -> A.TypeName | None:
        """A type if there is one here; the position is undefined when there is none."""
        if depth > _MAX_TYPE_DEPTH:
            return None
        start = self.token.start
        parts: tuple[A.TypeName, ...] = ()
        if self.at("("):
            self.advance()
            inner = []
            while not self.at(")"):
                one = self.try_type(depth + 1)
                if one is None:
                    return None
                inner.append(one)
                if not self.accept(","):
                    break
            if not self.at(")") or not inner:
                return None
            self.advance()
            name, parts = "tuple", tuple(inner)
        elif self.token.kind == "word" and self.token.text not in _KEYWORDS:
            name = self.advance().text
            if name in ("struct", "union", "enum"):
                if self.token.kind != "word":
                    return None
                name += " " + self.advance().text
            elif name in ("unsigned", "signed", "long", "short", "char", "int"):
                words = [name]
                while self.token.kind == "word" and self.token.text in ("unsigned", "signed", "long", "short", "char", "int"):
                    words.append(self.advance().text)
                name = _c_integer(words)
            elif name == "const" and self.token.kind == "word":
                return self.try_type(depth + 1)
        else:
            return None
        stars = 0
        dims: list[int | None] = []
        while True:
            if self.at("*") and not dims:
                self.advance()
                stars += 1
            elif self.at("["):
                self.advance()
                if self.token.kind == "int":
                    dims.append(self.advance().value)
                else:
                    dims.append(None)
                if not self.at("]"):
                    return None
                self.advance()
            else:
                break
        return A.TypeName(self.from_(start), name, stars, tuple(dims), parts)


def _c_integer(words: list[str]) -> str:
    """``unsigned long long`` as a sized type."""
    if words in (["int"], ["char"]):
        return words[0]
    sign = "u" if "unsigned" in words else ""
    bits = 8 if "char" in words else 16 if "short" in words else 64 if "long" in words else 32
    return f"{sign}int{bits}"


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


def checked(source: Source, params: tuple[str, ...] = ()) -> tuple[A.Program | None, SourceError | None]:
    """``parse`` that returns its error; for tools that go on (editors, ``harken check``)."""
    try:
        return parse(source, params), None
    except SourceError as problem:
        return None, problem
