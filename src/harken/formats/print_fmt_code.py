"""From the trees of ``print_fmt_parse`` to Python source with C's arithmetic.

``Coder`` turns each tree into a ``Value``: Python code of an integer in the range of its C type, of a text, or of memory inside the
record.  It is built in layers: types (``print_fmt_types``), expressions (``print_fmt_expressions``), functions (``print_fmt_calls``) and,
here, statements.

The names that generated code uses: ``b`` the buffer, ``s`` and ``e`` start and end of the record, ``f*`` fields, ``k*`` constants of the
event (memos, tables).
"""

from __future__ import annotations

from .print_fmt_calls import CallCoder
from .print_fmt_values import Unsupported, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .print_fmt_parse import Tree

__all__ = ("Coder",)


class Coder(CallCoder):
    """Compiles the arguments of one event.  A subclass may have another idea of C (``print_fmt_tep``)."""

    def on_block(self, tree: Tree) -> Value:
        """``({ ... })``: declarations, assignments, ``trace_seq_printf`` into the text that is the value."""
        before = dict(self.locals)
        pieces: list[str] = []
        result: Value | None = None
        try:
            for statement in tree[1]:
                result = self.statement(statement, pieces)
        finally:
            self.locals = before
        if result is None:
            raise Unsupported("a block without value")
        if result.kind == "saved":
            if not pieces:
                raise Unsupported("a block that prints nothing")
            code = "+".join(pieces) if len(pieces) > 1 else pieces[0]
            return Value(f'({code}).partition("\\0")[0]', kind="str")
        return result

    def statement(self, tree: Tree, pieces: list[str]) -> Value | None:
        if tree[0] == "declare":
            words, name, is_array, start = tree[1:]
            if start is not None and start[0] == "call" and start[1] == "trace_seq_buffer_ptr":
                self.locals[name] = Value("", kind="saved")
            elif is_array:
                self.locals[name] = self.value(start) if start else Value("", kind="table", layout=[])
            elif start is not None:
                value = self.value(start)
                if "*" not in words and value.kind == "int":
                    size, signed, _ = self.type_of(words)
                    value = self.convert(value, size, signed)
                self.locals[name] = value
            else:
                words = tuple(word for word in words if word not in ("const", "static"))
                layout = self.env.struct(" ".join(words)) if self.env.struct and words[:1] in (("struct",), ("union",)) else None
                if layout is None:
                    raise Unsupported(f"the layout of {' '.join(words)} is not known")
                self.locals[name] = Value("0", kind="struct", size=layout.size, layout=layout)
            return None
        if tree[0] == "assign":
            target, value = tree[1], self.integer(tree[2])
            if target[0] == "member" and target[1][0] == "name":
                old = self.locals.get(target[1][1])
                member = old.layout.member(target[2]) if old is not None and old.kind == "struct" else None
                if old is not None and member is not None and not member.bit_offset and not member.bit_size:
                    raw = self.convert(value, member.type.size or 4, False)
                    self.locals[target[1][1]] = Value(f"({raw.code})", kind="struct", size=old.size, layout=old.layout)
                    return None
            if target[0] == "name" and target[1] in self.locals:
                self.locals[target[1]] = value
                return None
            raise Unsupported("an assignment")
        if tree[0] == "call" and tree[1] in ("trace_seq_printf", "trace_seq_puts", "trace_seq_putc"):
            return self.sequence(tree[1], tree[2][1:], pieces)
        return self.value(tree)

    def sequence(self, name: str, arguments: list[Tree], pieces: list[str]) -> Value | None:
        from .print_fmt_printf import Printf

        if name == "trace_seq_putc":
            code = self.integer(arguments[0])
            if code.const != 0:
                pieces.append(f"chr({code.code} & 255)")
        elif name == "trace_seq_puts":
            pieces.append(self.text(self.value(arguments[0])).code)
        else:
            fmt = arguments[0]
            if fmt[0] != "str":
                raise Unsupported("a format that is not a string")
            pieces.append(Printf(self).code(fmt[1], arguments[1:]))
        return None
