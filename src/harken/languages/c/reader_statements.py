"""clang's tree to ours: statements, functions, variables, maps."""

from __future__ import annotations

from ...base.ctype import Array, CType, Func, Ptr, Struct
from ...base.diagnostics import error
from ...base.errors import HarkenError, SourceError
from . import libclang as lc
from . import tree
from .reader_init import InitReader, pointee

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .libclang import Cursor

__all__ = ("UnitReader", "TABLE_MARK", "SCOPE_MARK")

TABLE_MARK, SCOPE_MARK = "harken.table:", "harken.scope:"
_STATIC, _EXTERN = 3, 2
_NO_KEY = frozenset(("queue", "stack", "ringbuf"))
_NO_VALUE = frozenset(("ringbuf",))
#: method -> which argument points to the event
_SUBMITS = {"perf_submit": 1, "perf_submit_skb": 2, "ringbuf_output": 0, "ringbuf_submit": 0, "ringbuf_discard": 0}
_RECORDS = (lc.STRUCT_DECL, lc.UNION_DECL, lc.ENUM_DECL, lc.TYPEDEF_DECL)


class UnitReader(InitReader):
    """Reads a whole program."""

    def unit(self, mine: Callable[[str], bool], license: str) -> tree.TranslationUnit:
        """The translation unit: what is declared in files that are ``mine``, and functions that stand before the program.

        Raises:
            SourceError: with every problem that was found.
        """
        functions: list[tuple[tree.Function, Cursor]] = []
        tables: list[tree.Table] = []
        for cursor in self.parsed.children(self.parsed.root):
            if cursor.kind not in (lc.FUNCTION_DECL, lc.VAR_DECL):
                continue
            try:
                if cursor.kind == lc.FUNCTION_DECL:
                    if self.lib.clang_isCursorDefinition(cursor):
                        functions.append((self.head(cursor), cursor))
                elif mine(self.parsed.extent(cursor)[0]):
                    table = self.top_variable(cursor, tables)
                    if table is not None:
                        tables.append(table)
            except SourceError as problem:
                self.problems += problem.diagnostics
        read: list[tree.Function] = []
        for function, cursor in functions:
            self.current = function
            try:
                body = self.parsed.children(cursor)[-1]
                compound = self.statement(body)
                assert isinstance(compound, tree.Compound)
                function.body = compound
                read.append(function)
            except SourceError as problem:
                self.problems += problem.diagnostics
        if self.problems:
            raise SourceError(tuple(self.problems))
        used = self._reachable(read)
        for owner, method in self.methods:
            place = _SUBMITS.get(method.name)
            if place is not None and owner in used and place < len(method.args) and method.table.event is None:
                event = pointee(method.args[place])
                if event is not None and event.size:
                    method.table.event = event
        kept = tuple(function for function in read if function in used)
        return tree.TranslationUnit(kept, tuple(self.globals), tuple(tables), frozenset(), license)

    def _reachable(self, functions: list[tree.Function]) -> set[tree.Function]:
        """Programs and what they call; static functions that nobody calls (helpers of headers) are left out."""
        todo = [function for function in functions if not function.static]
        seen = set(todo)
        while todo:
            for target in self.mentions.get(todo.pop(), ()):
                if target.body is not None and target not in seen:
                    seen.add(target)
                    todo.append(target)
        return seen

    # -- declarations

    def head(self, cursor: Cursor) -> tree.Function:
        """A function with everything but its body."""
        lib = self.lib
        function = self.function(cursor)
        kind = self.types.of(cursor).strip()
        assert isinstance(kind, Func)
        params = []
        for number in range(max(0, lib.clang_Cursor_getNumArguments(cursor))):
            item = lib.clang_Cursor_getArgument(cursor, number)
            declared = self.kind(item)
            bare = declared.strip()
            if isinstance(bare, Array):  # libclang shows what was written; a parameter is a pointer
                declared = Ptr(bare.element)
            param = tree.Parameter(self.parsed.spelling(item), declared, self.span(item), number)
            self.declarations[lib.clang_getCanonicalCursor(item).data0 or 0] = param
            self.declarations[item.data0 or 0] = param
            params.append(param)
        function.params = tuple(params)
        function.kind = "user"
        function.type = Func(function.name, kind.returns, tuple((p.name, p.type) for p in params), kind.variadic)
        function.span = self.span(cursor)
        function.static = lib.clang_Cursor_getStorageClass(cursor) == _STATIC
        function.inline = bool(lib.clang_Cursor_isFunctionInlined(cursor))
        notes = {self.parsed.spelling(child) for child in self.parsed.children(cursor) if child.kind == lc.ANNOTATE}
        function.attributes = frozenset(notes)
        return function

    def top_variable(self, cursor: Cursor, tables: list[tree.Table]) -> tree.Table | None:
        """A file-scope variable: a map, a mark on one, or a variable."""
        for child in self.parsed.children(cursor):
            if child.kind == lc.ANNOTATE:
                note = self.parsed.spelling(child)
                if note.startswith(TABLE_MARK):
                    return self.table(cursor, note[len(TABLE_MARK) :])
                if note.startswith(SCOPE_MARK):
                    scope, _, name = note[len(SCOPE_MARK) :].partition(":")
                    for table in tables:
                        if table.name == name:
                            table.scope = scope
                    return None
        self.variable(cursor, False)
        return None

    def variable(self, cursor: Cursor, local: bool) -> tree.Variable:
        lib = self.lib
        name = self.parsed.spelling(cursor)
        storage = lib.clang_Cursor_getStorageClass(cursor)
        word = {_STATIC: "static", _EXTERN: "extern"}.get(storage, "local" if local else "global")
        kind = self.kind(cursor)
        key = lib.clang_getCanonicalCursor(cursor).data0 or 0
        known = self.declarations.get(key)
        constant = bool(lib.clang_isConstQualifiedType(lib.clang_getCursorType(cursor)))
        if isinstance(known, tree.Variable):
            variable = known
            variable.type = kind
        else:
            variable = tree.Variable(name, kind, self.span(cursor), None, word, constant)
            self.declarations[key] = variable
            if word != "local":
                self.globals.append(variable)
        if local and kind.strip().size == 0 and word == "local" and not isinstance(kind.strip(), Struct):
            raise self.fail(f"the size of {name} must be known when the program is compiled", cursor)
        init = lib.clang_Cursor_getVarDeclInitializer(cursor)
        if not lc.INVALID_FIRST <= init.kind <= lc.INVALID_LAST:
            variable.init = self.initialiser(init, kind)
        return variable

    def table(self, cursor: Cursor, note: str) -> tree.Table:
        """A map from the annotated variable that ``BPF_TABLE`` declares."""
        name = self.parsed.spelling(cursor)
        span = self.span(cursor)
        kind, _, pinned = note.partition(":")
        kind, _, inner = kind.partition("$")
        record = self.kind(cursor).strip()
        members: dict[str, CType] = {m.name: m.type for m in record.members} if isinstance(record, Struct) else {}
        table = tree.Table(name, record, span, kind, None, None, 0, 0, inner, pinned)
        if kind not in _NO_KEY:
            table.key = members.get("key")
        if kind not in _NO_VALUE:
            table.value = members.get("leaf")
        if kind == "extern":
            table.scope = "extern"
        init = self.lib.clang_Cursor_getVarDeclInitializer(cursor)
        for number, item in enumerate(self.parsed.children(init)):
            value = self.parsed.evaluate(self.parsed.children(item)[-1]) if self.parsed.children(item) else None
            if not isinstance(value, int):
                what = "size" if number == 0 else "flags"
                raise SourceError((error(f"the {what} of map {name} must be known when the program is compiled", span),))
            if number == 0:
                table.max_entries = value & 0xFFFFFFFF
            else:
                table.flags = value & 0xFFFFFFFF
        self.declarations[self.lib.clang_getCanonicalCursor(cursor).data0 or 0] = table
        return table

    # -- statements

    def statement_expression(self, cursor: Cursor) -> tree.Expr:
        body = self.statement(self.parsed.children(cursor)[0])
        assert isinstance(body, tree.Compound)
        kind = self.kind(cursor)
        if body.body and isinstance(body.body[-1], tree.ExpressionStatement) and kind.strip().size:
            last = body.body[-1]
            value = self.loaded(last.expression)
            body = body.replace(body=(*body.body[:-1], tree.ExpressionStatement(last.span, value)))
        return tree.StatementExpression(kind, self.span(cursor), body)

    def statement(self, cursor: Cursor) -> tree.Stmt:
        """Any statement."""
        reader = _STATEMENTS.get(cursor.kind)
        if reader is not None:
            return reader(self, cursor)
        try:
            node = self.expression(cursor)
        except SourceError:
            raise
        except HarkenError as problem:
            raise self.fail(problem.message, cursor, problem.hint) from None
        return tree.ExpressionStatement(node.span, node)

    def compound(self, cursor: Cursor) -> tree.Stmt:
        return tree.Compound(self.span(cursor), tuple([self.statement(part) for part in self.parsed.children(cursor)]))

    def declare(self, cursor: Cursor) -> tree.Stmt:
        variables = []
        for part in self.parsed.children(cursor):
            if part.kind == lc.VAR_DECL:
                variables.append(self.variable(part, True))
            elif part.kind == lc.FUNCTION_DECL or part.kind in _RECORDS:
                continue
        return tree.Declare(self.span(cursor), tuple(variables)) if variables else tree.Empty(self.span(cursor))

    def unexposed(self, cursor: Cursor) -> tree.Stmt:
        """A statement with an attribute or ``#pragma unroll`` before it."""
        parts = self.parsed.children(cursor)
        if not parts:
            return tree.Empty(self.span(cursor))
        inner = self.statement(parts[-1])
        return inner.replace(unroll=-1) if isinstance(inner, tree.For) else inner

    def conditional_statement(self, cursor: Cursor) -> tree.Stmt:
        parts = self.parsed.children(cursor)
        otherwise = self.statement(parts[2]) if len(parts) > 2 else None
        return tree.If(self.span(cursor), self.value(parts[0]), self.statement(parts[1]), otherwise)

    def while_loop(self, cursor: Cursor) -> tree.Stmt:
        condition, body = self.parsed.children(cursor)[-2:]
        return tree.While(self.span(cursor), self.value(condition), self.statement(body))

    def do_loop(self, cursor: Cursor) -> tree.Stmt:
        body, condition = self.parsed.children(cursor)[-2:]
        return tree.Do(self.span(cursor), self.statement(body), self.value(condition))

    def for_loop(self, cursor: Cursor) -> tree.Stmt:
        parts = self.parsed.children(cursor)
        *head, body = parts
        init = condition = step = None
        for part, role in zip(head, self._roles(cursor, head)):
            if role == 0:
                init = part
            elif role == 1:
                condition = part
            else:
                step = part
        return tree.For(
            self.span(cursor),
            None if init is None else self.statement(init),
            None if condition is None else self.value(condition),
            None if step is None else self.expression(step),
            self.statement(body),
        )

    def _roles(self, cursor: Cursor, head: list[Cursor]) -> list[int]:
        """Which of init (0), condition (1) and step (2) the parts of a ``for`` are: libclang leaves out those that are missing."""
        if len(head) == 3:
            return [0, 1, 2]
        if not head:
            return []
        file, start, _end = self.parsed.extent(cursor)
        if file == self.source.name and not self.parsed.in_macro(cursor):
            ends = _semicolons(self.source.text, self.offset(start))
            if ends:
                places = [self.offset(self.parsed.extent(part)[1]) for part in head]
                return [sum(place > end for end in ends) for place in places]
        effects = [part.kind == lc.DECL_STMT or self._has_effect(part) for part in head]
        if len(head) == 1:
            return [0 if head[0].kind == lc.DECL_STMT else 2 if effects[0] else 1]
        return [0, 2] if all(effects) else [0, 1] if effects[0] else [1, 2]

    def _has_effect(self, part: Cursor) -> bool:
        node = self.expression(part)
        return isinstance(node, (tree.Assign, tree.Step, tree.Call, tree.Method, tree.Comma))

    def switch(self, cursor: Cursor) -> tree.Stmt:
        value, body = self.parsed.children(cursor)[-2:]
        return tree.Switch(self.span(cursor), self.value(value), self.statement(body))

    def case(self, cursor: Cursor) -> tree.Stmt:
        *bounds, body = self.parsed.children(cursor)
        values = [self.parsed.evaluate(bound) for bound in bounds]
        if not all(isinstance(value, int) for value in values):
            raise self.fail("the value of a case must be known when the program is compiled", cursor)
        return tree.Case(self.span(cursor), int(values[0] or 0), int(values[-1] or 0), self.statement(body))

    def default(self, cursor: Cursor) -> tree.Stmt:
        return tree.Default(self.span(cursor), self.statement(self.parsed.children(cursor)[-1]))

    def label(self, cursor: Cursor) -> tree.Stmt:
        parts = self.parsed.children(cursor)
        return tree.Label(self.span(cursor), self.parsed.spelling(cursor), self.statement(parts[-1]))

    def goto(self, cursor: Cursor) -> tree.Stmt:
        return tree.Goto(self.span(cursor), self.parsed.spelling(self.parsed.children(cursor)[0]))

    def result(self, cursor: Cursor) -> tree.Stmt:
        parts = self.parsed.children(cursor)
        return tree.Return(self.span(cursor), self.value(parts[0]) if parts else None)

    def indirect_goto(self, cursor: Cursor) -> tree.Stmt:
        raise self.fail("a computed goto cannot be used in a BPF program", cursor, "use a switch")

    def asm(self, cursor: Cursor) -> tree.Stmt:
        lib = self.lib
        if not hasattr(lib, "clang_Cursor_getGCCAssemblyTemplate") or lib.clang_Cursor_getGCCAssemblyTemplate.argtypes is None:
            raise self.fail("inline assembly needs a newer libclang", cursor, "pip install -U libclang-ng")
        if lib.clang_Cursor_isGCCAssemblyHasGoto(cursor):
            raise self.fail("asm goto cannot be used in a BPF program", cursor)
        outputs, inputs = (
            tuple(
                self._operand(getattr(lib, f"clang_Cursor_getGCCAssembly{what}"), cursor, number, what) for number in range(count(cursor))
            )
            for what, count in (
                ("Output", lib.clang_Cursor_getGCCAssemblyNumOutputs),
                ("Input", lib.clang_Cursor_getGCCAssemblyNumInputs),
            )
        )
        clobbers = tuple(
            lc.text(lib.clang_Cursor_getGCCAssemblyClobber(cursor, number))
            for number in range(lib.clang_Cursor_getGCCAssemblyNumClobbers(cursor))
        )
        template = lc.text(lib.clang_Cursor_getGCCAssemblyTemplate(cursor))
        return tree.Asm(self.span(cursor), template, outputs, inputs, clobbers, bool(lib.clang_Cursor_isGCCAssemblyVolatile(cursor)))

    def _operand(self, getter: Callable[..., int], cursor: Cursor, number: int, what: str) -> tree.AsmOperand:
        constraint, expression = lc.operand(getter, cursor, number)
        node = self.expression(expression)
        return tree.AsmOperand("", constraint, node if what == "Output" else self.loaded(node))


_STATEMENTS: dict[int, Callable[[UnitReader, Cursor], tree.Stmt]] = {
    lc.COMPOUND: UnitReader.compound,
    lc.DECL_STMT: UnitReader.declare,
    lc.UNEXPOSED_STMT: UnitReader.unexposed,
    lc.IF: UnitReader.conditional_statement,
    lc.WHILE: UnitReader.while_loop,
    lc.DO: UnitReader.do_loop,
    lc.FOR: UnitReader.for_loop,
    lc.SWITCH: UnitReader.switch,
    lc.CASE: UnitReader.case,
    lc.DEFAULT: UnitReader.default,
    lc.LABEL: UnitReader.label,
    lc.GOTO: UnitReader.goto,
    lc.INDIRECT_GOTO: UnitReader.indirect_goto,
    lc.RETURN: UnitReader.result,
    lc.BREAK: lambda reader, cursor: tree.Break(reader.span(cursor)),
    lc.CONTINUE: lambda reader, cursor: tree.Continue(reader.span(cursor)),
    lc.NULL_STMT: lambda reader, cursor: tree.Empty(reader.span(cursor)),
    lc.ASM: UnitReader.asm,
}


def _semicolons(text: str, start: int) -> list[int]:
    """Offsets of the two semicolons of the ``for`` at ``start``; empty if they cannot be told."""
    position = text.find("(", start)
    depth, found = 0, []
    while 0 <= position < len(text):
        char = text[position]
        if text.startswith("/*", position):
            position = text.find("*/", position)
            if position < 0:
                return []
            position += 2
            continue
        if text.startswith("//", position):
            position = text.find("\n", position)
            continue
        if char in "\"'":
            end = position + 1
            while end < len(text) and text[end] != char:
                end += 2 if text[end] == "\\" else 1
            position = end
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if not depth:
                break
        elif char == ";" and depth == 1:
            found.append(position)
        position += 1
    return found if len(found) == 2 else []
