"""What stands between action blocks: the preprocessor, C types, options, declarations of maps."""

from __future__ import annotations

from ...base.diagnostics import Span
from . import ast as A
from .headers import CONSTANTS
from .lexer import fail
from .parser_statements import Statements

__all__ = ("Definitions",)


class Definitions(Statements):
    """Parts of a program that are no action blocks."""

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

    def block_until_close(self) -> tuple[A.Stmt, ...]:
        """The current token is ``{``; afterwards the lexer stands right behind the matching ``}`` with no token scanned."""
        self.expect("{")
        body = self.statements()
        self.close("}")
        return body
