"""Building the intermediate representation, and checking its form."""

from __future__ import annotations

from .ir_values import (
    BINARY,
    I1,
    I64,
    NONE,
    PREDICATES,
    PTR,
    TERMINATORS,
    Block,
    Const,
    FieldRef,
    Function,
    Inst,
    IRError,
    Type,
    Value,
)  # fmt: skip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ..base.ctype import CType
    from ..base.diagnostics import Span

__all__ = ("Builder", "verify")


class Builder:
    """Appends instructions to a block.  ``span`` is stamped on each of them."""

    def __init__(self, function: Function, block: Block | None = None) -> None:
        self.function = function
        self.at = block or function.blocks[-1]
        self.span: Span | None = function.span

    # -- plumbing
    def insert(self, op: str, args: Iterable[Value] = (), type: Type = NONE, attr: Any = None, **pointer: Any) -> Inst:
        if self.at.terminator is not None:
            raise IRError(f"block {self.at.name} already ends in {self.at.terminator.op}; cannot add {op}")
        inst = Inst(op, args, type, attr, self.span, **pointer)
        self.at.insts.append(inst)
        return inst

    def block(self, name: str) -> Block:
        return self.function.block(name)

    def goto(self, block: Block) -> None:
        """Go on building in ``block``."""
        self.at = block

    @property
    def ended(self) -> bool:
        return self.at.terminator is not None

    @staticmethod
    def const(value: int, type: Type = I64) -> Const:
        return Const(value, type)

    # -- integers
    def binary(self, op: str, a: Value, b: Value) -> Inst:
        if op not in BINARY:
            raise IRError(f"{op} is not a binary operation")
        if (a.type is not b.type and a.type != b.type) or a.type.pointer:
            raise IRError(f"{op} of {a.type} and {b.type}")
        return self.insert(op, (a, b), a.type)

    def add(self, a: Value, b: Value) -> Inst:
        return self.binary("add", a, b)

    def sub(self, a: Value, b: Value) -> Inst:
        return self.binary("sub", a, b)

    def unary(self, op: str, a: Value) -> Inst:
        return self.insert(op, (a,), a.type)

    def icmp(self, predicate: str, a: Value, b: Value) -> Inst:
        if predicate not in PREDICATES:
            raise IRError(f"{predicate} is not a predicate")
        if a.type is not b.type and a.type != b.type and not (a.type.pointer and isinstance(b, Const)):
            raise IRError(f"icmp of {a.type} and {b.type}")
        return self.insert("icmp", (a, b), I1, predicate)

    def select(self, condition: Value, a: Value, b: Value) -> Inst:
        return self.insert("select", (condition, a, b), a.type, space=a.space, ctype=a.ctype)

    def resize(self, a: Value, type: Type, signed: bool) -> Value:
        """``a`` as an integer of another width: truncated, or extended by its sign or with zeros."""
        if a.type is type or a.type == type:
            return a
        if isinstance(a, Const):
            return Const(a.signed if signed and a.type.bits > 1 else a.value, type)
        return self.insert("trunc" if type.bits < a.type.bits else "sext" if signed else "zext", (a,), type)

    # -- memory
    def alloca(self, size: int, name: str = "", align: int = 8) -> Inst:
        """Stack memory; the instruction goes to the entry block wherever the builder stands."""
        inst = Inst("alloca", (), PTR, (size, align, name), self.span, space="stack")
        self.function.blocks[0].insts.insert(0, inst)
        return inst

    def load(self, pointer: Value, type: Type = I64, offset: int = 0, **result: Any) -> Inst:
        return self.insert("load", (pointer,), type, offset, **result)

    def store(self, pointer: Value, value: Value, offset: int = 0) -> Inst:
        return self.insert("store", (pointer, value), NONE, offset)

    def copy(self, to: Value, source: Value, size: int, to_offset: int = 0, source_offset: int = 0) -> Inst:
        return self.insert("copy", (to, source), I64, (to_offset, source_offset, size))

    def zero(self, to: Value, size: int, offset: int = 0) -> Inst:
        return self.insert("zero", (to,), NONE, (offset, size))

    def gep(self, pointer: Value, offset: Value) -> Inst:
        return self.insert("gep", (pointer, offset), PTR, space=pointer.space, ctype=None)

    def field(self, pointer: Value, ref: FieldRef, ctype: CType | None = None) -> Inst:
        return self.insert("field", (pointer,), PTR, ref, space=pointer.space, ctype=ctype)

    def to_int(self, pointer: Value) -> Value:
        return self.insert("ptrtoint", (pointer,), I64) if pointer.type.pointer else pointer

    def to_pointer(self, value: Value, space: str, ctype: CType | None = None) -> Inst:
        return self.insert("inttoptr", (value,), PTR, space=space, ctype=ctype)

    def atomic(self, op: str, pointer: Value, value: Value, offset: int = 0, fetch: bool = False) -> Inst:
        return self.insert("atomic", (pointer, value), value.type if fetch else NONE, (op, offset, fetch))

    def read_str(self, to: Value, source: Value, size: int, length: Value | None = None) -> Inst:
        return self.insert("read_str", (to, source, length or Const(size)), I64, size)

    def bytes(self, data: bytes) -> Inst:
        return self.insert("bytes", (), PTR, data, space="map_value")

    # -- maps and events
    def map(self, name: str) -> Inst:
        return self.insert("map", (), PTR, name, space="map")

    def lookup(self, name: str, key: Value) -> Inst:
        return self.insert("lookup", (self.map(name), key), PTR, space="map_value", nullable=True)

    def update(self, name: str, key: Value, value: Value, flags: int = 0) -> Inst:
        return self.insert("update", (self.map(name), key, value), I64, flags)

    def delete(self, name: str, key: Value) -> Inst:
        return self.insert("delete", (self.map(name), key), I64)

    def record(self, ring: str, size: int, tail: int = 0) -> Inst:
        return self.insert("record", (), PTR, (ring, size, tail), space="ring", nullable=True)

    def emit(self, record: Value, event: int, length: Value | None = None) -> Inst:
        return self.insert("emit", (record,) if length is None else (record, length), NONE, event)

    def count_loss(self, kind: str, subject: str | int = "") -> Inst:
        return self.insert("count_loss", (), NONE, (kind, subject))

    # -- context and kernel
    def ctx(self) -> Inst:
        return self.insert("ctx", (), PTR, space="ctx")

    def arg(self, n: int) -> Inst:
        return self.insert("arg", (), I64, n)

    def retval(self) -> Inst:
        return self.insert("retval", (), I64)

    def reg(self, name: str) -> Inst:
        return self.insert("reg", (), I64, name)

    def helper(self, name: str, *args: Value, type: Type = I64, **pointer: Any) -> Inst:
        return self.insert("helper", args, type, name, **pointer)

    def call(self, function: Function, *args: Value) -> Inst:
        return self.insert("call", args, function.result, function.name)

    # -- control flow
    def br(self, block: Block) -> Inst:
        return self.insert("br", (), NONE, block)

    def condbr(self, condition: Value, then: Block, otherwise: Block) -> Inst:
        return self.insert("condbr", (condition,), NONE, (then, otherwise))

    def not_null(self, pointer: Value, then: Block, otherwise: Block) -> None:
        """Branch to ``then`` if the pointer is not null."""
        self.condbr(self.icmp("ne", pointer, Const(0)), then, otherwise)

    def short_circuit(self, node: Any, branch: Callable[[Any, Block, Block], None], then: Block, otherwise: Block) -> None:
        """``a && b && ...`` or ``a || b || ...`` as jumps: a side is computed only when it matters.

        Args:
            node: any front end's expression, with ``op`` ("&&" or "||"), ``left`` and ``right``.
            branch: builds a condition that goes to the first block if it holds, else to the second.
        """
        op, kind, sides = node.op, type(node), []
        while type(node) is kind and node.op == op:  # chains may be long: no recursion
            sides.append(node.right)
            node = node.left
        while sides:
            more = self.block("and" if op == "&&" else "or")
            branch(node, *((more, otherwise) if op == "&&" else (then, more)))
            self.goto(more)
            node = sides.pop()
        branch(node, then, otherwise)

    def decided(self, jumps: Callable[[Block, Block], None]) -> Inst:
        """A condition that is built as jumps, as I1."""
        yes, no, done = self.block("yes"), self.block("no"), self.block("join")
        jumps(yes, no)
        for block in (yes, no):
            self.goto(block)
            self.br(done)
        self.goto(done)
        return self.phi(I1, ((yes, Const(1, I1)), (no, Const(0, I1))))

    def phi(self, type: Type, incoming: Iterable[tuple[Block, Value]], **pointer: Any) -> Inst:
        """A phi at the start of the current block."""
        pairs = list(incoming)
        inst = Inst("phi", [v for _, v in pairs], type, [b for b, _ in pairs], self.span, **pointer)
        position = next((i for i, other in enumerate(self.at.insts) if other.op != "phi"), len(self.at.insts))
        self.at.insts.insert(position, inst)
        return inst

    def ret(self, value: Value | None = None) -> Inst:
        return self.insert("ret", (value if value is not None else Const(0),), NONE)

    def exit(self) -> Inst:
        """Ends the whole program with 0, also from within functions that are inlined."""
        return self.insert("ret", (Const(0),), NONE, "exit")


def verify(function: Function) -> None:
    """Checks the form: terminators, phis, and that each use is dominated by its definition within a block's order.

    Raises:
        IRError: with the function's text.
    """
    known = set(function.blocks)
    defined: set[Value] = set(function.params)
    for inst in function.instructions():
        defined.add(inst)
    before = function.predecessors()
    for block in function.blocks:
        if block.terminator is None:
            raise IRError(f"{function.name}: block {block.name} has no terminator\n{function}")
        seen: set[Value] = set()
        local = set(block.insts)
        for position, inst in enumerate(block.insts):
            if inst.op in TERMINATORS and position != len(block.insts) - 1:
                raise IRError(f"{function.name}: {inst.op} inside block {block.name}\n{function}")
            if inst.op == "phi" and set(inst.attr) != set(before[block]):
                raise IRError(f"{function.name}: phi in {block.name} does not match its predecessors\n{function}")
            for value in inst.args:
                if not isinstance(value, Const) and value not in defined:
                    raise IRError(f"{function.name}: {inst.op} in {block.name} uses a value of another function\n{function}")
                if inst.op != "phi" and value in local and value not in seen:
                    raise IRError(f"{function.name}: {inst.op} in {block.name} uses a value before its definition\n{function}")
            seen.add(inst)
        if any(after not in known for after in block.successors()):
            raise IRError(f"{function.name}: block {block.name} goes to a foreign block\n{function}")
