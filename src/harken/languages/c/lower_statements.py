"""Statements: control flow, declarations and initialisers.

Loops stay loops: kernels since 5.3 follow them.  One that ``#pragma unroll`` asks to write out is left to the verifier too, which sees
every round's numbers either way.
"""

from __future__ import annotations

from ...base.ctype import Array
from ...compiler.ir import Const, Value, int_type
from . import tree
from .lower_expressions import ExpressionCode
from .lower_memory import Place, Result, is_aggregate, is_wide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...compiler.ir import Block

__all__ = ("StatementCode",)

#: a range of cases with more values becomes two comparisons
_RANGE = 32
#: constant bytes up to here are written by stores
_FEW = 32


class StatementCode(ExpressionCode):
    """Code of statements.  ``breaks`` and ``continues`` are the blocks that these statements go to, innermost last."""

    def prepare(self) -> None:
        """Sets up what statements need."""
        self.breaks: list[Block] = []
        self.continues: list[Block] = []
        self.labels: dict[str, Block] = {}
        self.cases: list[dict[int, Block]] = []
        #: the expression whose value nobody wants
        self.ignored: tree.Expr | None = None

    def statement(self, node: tree.Stmt) -> None:
        b = self.b
        if node.span is not None:
            b.span = node.span
        if b.ended:
            b.goto(b.block("unreached"))
        getattr(self, "s_" + type(node).__name__)(node)
        if b.ended:
            b.goto(b.block("unreached"))

    def s_Compound(self, node: tree.Compound) -> None:
        for statement in node.body:
            self.statement(statement)

    def s_Empty(self, node: tree.Empty) -> None:
        pass

    def s_ExpressionStatement(self, node: tree.ExpressionStatement) -> None:
        expression = node.expression
        while isinstance(expression, tree.Cast) and expression.kind == "void":
            expression = expression.operand
        self.ignored = expression
        self.rvalue(expression)

    # -- branches
    def s_If(self, node: tree.If) -> None:
        b = self.b
        done = b.block("endif")
        while True:
            then = b.block("then")
            otherwise = b.block("else") if node.otherwise is not None else done
            self.branch(node.condition, then, otherwise)
            b.goto(then)
            self.statement(node.then)
            b.br(done)
            if node.otherwise is None:
                break
            b.goto(otherwise)
            if not isinstance(node.otherwise, tree.If):
                self.statement(node.otherwise)
                b.br(done)
                break
            # long chains of "else if" do not nest
            node = node.otherwise
            if node.span is not None:
                b.span = node.span
        b.goto(done)

    def loop(self, condition: tree.Expr | None, body: tree.Stmt, step: tree.Expr | None, test_first: bool) -> None:
        b = self.b
        head, inside, again, done = b.block("loop"), b.block("body"), b.block("next"), b.block("endloop")
        b.br(head if test_first else inside)
        b.goto(head)
        if condition is None:
            b.br(inside)
        else:
            self.branch(condition, inside, done)
        b.goto(inside)
        self.breaks.append(done)
        self.continues.append(again)
        self.statement(body)
        self.breaks.pop()
        self.continues.pop()
        b.br(again)
        b.goto(again)
        if step is not None:
            self.rvalue(step)
        b.br(head)
        b.goto(done)

    def s_While(self, node: tree.While) -> None:
        self.loop(node.condition, node.body, None, True)

    def s_Do(self, node: tree.Do) -> None:
        self.loop(node.condition, node.body, None, False)

    def s_For(self, node: tree.For) -> None:
        if node.init is not None:
            self.statement(node.init)
        self.loop(node.condition, node.body, node.step, True)

    def s_Switch(self, node: tree.Switch) -> None:
        b = self.b
        value = self.number(node.value)
        mask = (1 << value.type.bits) - 1
        cases: list[tuple[int, Block]] = []
        ranges: list[tuple[int, int, Block]] = []
        blocks: dict[int, Block] = {}
        done = b.block("endswitch")
        default = done
        for item in _cases(node.body):
            block = blocks[id(item)] = b.block("case")
            if isinstance(item, tree.Default):
                default = block
            elif item.high - item.low < _RANGE:
                cases += [(number & mask, block) for number in range(item.low, item.high + 1)]
            else:
                ranges.append((item.low, item.high, block))
        for low, high, block in ranges:
            following = b.block("range")
            size = Const(high - low, value.type)
            b.condbr(b.icmp("ule", b.sub(value, Const(low, value.type)), size), block, following)
            b.goto(following)
        b.insert("switch", (value,), attr=(default, tuple(cases)))
        self.breaks.append(done)
        self.cases.append(blocks)
        b.goto(b.block("unreached"))
        self.statement(node.body)
        self.cases.pop()
        self.breaks.pop()
        b.br(done)
        b.goto(done)

    def _labelled(self, block: Block, body: tree.Stmt) -> None:
        self.b.br(block)
        self.b.goto(block)
        self.statement(body)

    def s_Case(self, node: tree.Case) -> None:
        self._labelled(self.cases[-1][id(node)], node.body)

    def s_Default(self, node: tree.Default) -> None:
        self._labelled(self.cases[-1][id(node)], node.body)

    def s_Label(self, node: tree.Label) -> None:
        self._labelled(self.label(node.name), node.body)

    def label(self, name: str) -> Block:
        """The block that a label names."""
        block = self.labels.get(name)
        if block is None:
            block = self.labels[name] = self.b.block(name)
        return block

    def s_Goto(self, node: tree.Goto) -> None:
        self.b.br(self.label(node.label))

    def s_Break(self, node: tree.Break) -> None:
        self.b.br(self.breaks[-1])

    def s_Continue(self, node: tree.Continue) -> None:
        self.b.br(self.continues[-1])

    # -- declarations
    def s_Declare(self, node: tree.Declare) -> None:
        for variable in node.variables:
            if variable.storage == "local":
                self.declare(variable)

    def declare(self, variable: tree.Variable) -> None:
        """Gives a local variable its memory and its first value."""
        type = variable.type
        if variable.span is not None:
            self.b.span = variable.span
        if variable not in self.places:
            if isinstance(type.strip(), Array) and not type.size:
                self.fail(f"the size of {variable.name} is not constant", hint="give the array a constant size")
            if not is_aggregate(type) and not is_wide(type):
                self.scalar(type, variable.span)
            self.places[variable] = self.new_place(type, variable.name)
        place = self.places[variable]
        if variable.init is not None:
            self.initialise(place, variable.init)
        elif is_aggregate(type):
            # what C leaves undefined would be the verifier's complaint as soon as a helper reads the object
            self.b.zero(place.pointer, (type.size + 7) // 8 * 8)

    def initialise(self, place: Place, init: tree.Expr) -> None:
        """Sets an object to an initialiser; what that does not mention becomes zero."""
        self._fill(place, init, False)

    def _fill(self, place: Place, init: tree.Expr, zeroed: bool) -> None:
        b = self.b
        if isinstance(init, tree.StringLiteral):
            self._store_text(place, init.data)
            return
        if not isinstance(init, tree.InitList):
            self.store(place, self.rvalue(init))
            return
        if place.bits or not (is_aggregate(place.type) or is_wide(place.type)):
            # int x = {5};
            value = init.entries[0].value if init.entries else tree.Literal(place.type, None, 0)
            self.store(place, self.rvalue(value))
            return
        size = place.type.strip().size
        constants, rest = self.constant_parts(init)
        if not zeroed and _covered(init) < size:
            zeroed = True
            own = place.offset == 0 and size % 8
            b.zero(place.pointer, (size + 7) // 8 * 8 if own and _whole(place.pointer) else size, place.offset)
        for offset, data in constants:
            self.code.store_bytes(data, place.pointer, place.offset + offset)
        for entry in rest:
            self._fill(place.part(entry.type, entry.bit_offset, entry.bit_size), entry.value, zeroed)

    def constant_parts(self, init: tree.InitList) -> tuple[list[tuple[int, bytes]], list[tree.InitEntry]]:
        """Large constant tables as bytes (offset, data); the entries that have to be stored one by one."""
        if len(init.entries) > 8:
            data = self.unit.constant_bytes(init)
            if data is not None:
                return [(0, data)], []
        return [], list(init.entries)

    def _store_text(self, place: Place, data: bytes) -> None:
        size = place.type.strip().size
        text = data[:size].rstrip(b"\0")
        head = text + bytes(min(size, (len(text) + 8) // 8 * 8) - len(text))
        if len(text) <= _FEW:
            position = 0
            while position < len(head):
                step = next(s for s in (8, 4, 2, 1) if len(head) - position >= s and not (place.offset + position) % s)
                chunk = int.from_bytes(head[position : position + step], "little")
                self.b.store(place.pointer, Const(chunk, int_type(step)), place.offset + position)
                position += step
        else:
            self.code.store_bytes(head, place.pointer, place.offset)
        if size > len(head):
            self.b.zero(place.pointer, size - len(head), place.offset + len(head))

    # -- leaving
    def s_Return(self, node: tree.Return) -> None:
        value = self.rvalue(node.value) if node.value is not None else None
        self.leave(value)

    def leave(self, value: Result | None) -> None:
        """Returns from the function with a value of its type."""
        raise NotImplementedError

    # -- assembly
    def s_Asm(self, node: tree.Asm) -> None:
        """Barriers (an empty template) and single BPF instructions between operands."""
        text = node.template.strip().rstrip(";").strip()
        places = [self.lvalue(output.expression) for output in node.outputs]
        inputs: dict[int, Result] = {}
        for number, operand in enumerate(node.inputs):
            inputs[number] = self.rvalue(operand.expression)
            if operand.constraint.isdecimal():
                # tied to an output: that starts with this value
                place = places[int(operand.constraint)]
                self.store(place, self.convert(inputs[number], operand.expression.type, place.type))
        if not text or text.startswith(("//", "#")):
            return
        self._instruction(node, text, places, inputs)

    def _instruction(self, node: tree.Asm, text: str, places: list[Place], inputs: dict[int, Result]) -> None:
        names = {f"%[{o.name}]": i for i, o in enumerate((*node.outputs, *node.inputs)) if o.name}
        # clang writes operands as LLVM does
        names |= {f"{mark}{i}": i for mark in "%$" for i in range(len(node.outputs) + len(node.inputs))}
        for mark in ("<<=", "s>>=", ">>=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "="):
            left, found, right = text.partition(f" {mark} ")
            if not found:
                continue
            target = names.get(left.strip())
            source = names.get(right.strip())
            if target is None or target >= len(places):
                break
            place = places[target]
            kind = place.type
            if source is not None:
                operand = (*node.outputs, *node.inputs)[source]
                value = self.load(places[source]) if source < len(places) else inputs[source - len(places)]
                value = self.convert(value, operand.expression.type, kind)
            else:
                try:
                    value = Const(int(right.strip(), 0), self.scalar(kind))
                except ValueError:
                    break
            if mark != "=":
                op = mark[:-1].removeprefix("s")
                value = self.arithmetic(op, self.load(place), value, kind, kind)
            self.store(place, value)
            return
        self.fail(
            f"this assembly is not understood: {text!r}",
            node.span,
            "only barriers and single operations are",
        )


def _whole(pointer: Value) -> bool:
    return getattr(pointer, "op", "") == "alloca"


def _covered(init: tree.InitList) -> int:
    """The number of bytes that the entries set for sure."""
    done: set[int] = set()
    for entry in init.entries:
        if entry.bit_size or (isinstance(entry.value, tree.InitList) and is_aggregate(entry.type)):
            continue
        if entry.bit_offset // 8 not in done and entry.type.strip().size <= 64:
            done.update(range(entry.bit_offset // 8, entry.bit_offset // 8 + entry.type.strip().size))
    return len(done)


def _cases(node: tree.Stmt) -> list[tree.Case | tree.Default]:
    """The cases of a switch, without those of switches inside it, in order."""
    found: list[tree.Case | tree.Default] = []
    todo: list[tree.Stmt] = [node]
    while todo:
        item = todo.pop()
        if isinstance(item, (tree.Case, tree.Default)):
            found.append(item)
            todo.append(item.body)
        elif isinstance(item, tree.Compound):
            todo += reversed(item.body)
        elif isinstance(item, tree.If):
            todo += [part for part in (item.otherwise, item.then) if part is not None]
        elif isinstance(item, (tree.While, tree.Do, tree.For, tree.Label)):
            todo.append(item.body)
    return found
