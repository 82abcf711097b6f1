"""The parts of the intermediate representation (see ``compiler.ir``, which has them all): types, values, functions, modules."""

from __future__ import annotations

from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from ..base.ctype import CType
    from ..base.diagnostics import Span
    from ..formats.spec import AttachSpec, MapSpec

__all__ = (
    "Type", "I1", "I8", "I16", "I32", "I64", "PTR", "NONE", "int_type",
    "Value", "Const", "Param", "Inst", "Block", "Function", "FieldRef", "Program", "Module",
    "BINARY", "PREDICATES", "TERMINATORS", "PURE", "IRError",
)  # fmt: skip


class IRError(Exception):
    """A front end or pass built wrong IR: a bug in harken, never the user's fault."""


class Type(Record):
    """A machine type: ``bits`` of an integer, 64 and ``pointer`` for pointers, 0 for "no result"."""

    bits: int
    pointer: bool = False

    @property
    def size(self) -> int:
        return (self.bits + 7) // 8

    def __str__(self) -> str:
        return "ptr" if self.pointer else f"i{self.bits}" if self.bits else "none"


I1, I8, I16, I32, I64 = Type(1), Type(8), Type(16), Type(32), Type(64)
PTR, NONE = Type(64, True), Type(0)


def int_type(size: int) -> Type:
    """The integer type of ``size`` bytes."""
    return {1: I8, 2: I16, 4: I32, 8: I64}[size]


BINARY = frozenset("add sub mul udiv sdiv umod smod and or xor shl lshr ashr".split())
PREDICATES = frozenset("eq ne ult ule ugt uge slt sle sgt sge".split())
TERMINATORS = frozenset("br condbr switch ret unreachable".split())
#: Operations without effects whose result depends on their operands alone.
PURE = BINARY | frozenset(
    "neg not bswap icmp select zext sext trunc ptrtoint inttoptr gep field map bytes data ctx arg retval reg ksym".split()
)


class Value:
    """Anything an instruction can use.  Pointers have a ``space`` and may be ``nullable`` and know what they point to (``ctype``)."""

    __slots__ = ("ctype", "nullable", "space", "type")

    def __init__(self, type: Type, space: str = "", nullable: bool = False, ctype: CType | None = None) -> None:
        self.type, self.space, self.nullable, self.ctype = type, space, nullable, ctype


class Const(Value):
    """An integer constant, kept as the unsigned number of its width."""

    __slots__ = ("value",)

    def __init__(self, value: int, type: Type = I64) -> None:
        # as in Value, written out: these are made by the thousand
        self.type, self.space, self.nullable, self.ctype = type, "", False, None
        self.value = value & ((1 << type.bits) - 1)

    @property
    def signed(self) -> int:
        return self.value - (1 << self.type.bits) if self.value >> (self.type.bits - 1) else self.value

    def __str__(self) -> str:
        return str(self.signed if self.type.bits > 1 else self.value)


class Param(Value):
    """A parameter of a static function or callback."""

    __slots__ = ("index", "name")

    def __init__(self, index: int, name: str, type: Type = I64, space: str = "", ctype: CType | None = None) -> None:
        super().__init__(type, space, False, ctype)
        self.index, self.name = index, name

    def __str__(self) -> str:
        return f"%{self.name}"


class FieldRef(Record):
    """A kernel field by name: ``struct`` ("task_struct"), ``path`` ("mm.pgd"), and its offset in the kernel compiled for, in bytes."""

    struct: str
    path: str
    offset: int

    def __str__(self) -> str:
        return f"{self.struct}.{self.path}+{self.offset}"


class Inst(Value):
    """One operation; ``attr`` is its constant part as listed in the module's table; ``span`` is the user's text it came from."""

    __slots__ = ("args", "attr", "op", "span")

    def __init__(
        self,
        op: str,
        args: Iterable[Value] = (),
        type: Type = NONE,
        attr: Any = None,
        span: Span | None = None,
        space: str = "",
        nullable: bool = False,
        ctype: CType | None = None,
    ) -> None:
        self.type, self.space, self.nullable, self.ctype = type, space, nullable, ctype
        self.op, self.args, self.attr, self.span = op, list(args), attr, span


class Block:
    """Straight-line code that ends in one terminator."""

    __slots__ = ("insts", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.insts: list[Inst] = []

    @property
    def terminator(self) -> Inst | None:
        return self.insts[-1] if self.insts and self.insts[-1].op in TERMINATORS else None

    def successors(self) -> tuple[Block, ...]:
        if not self.insts:
            return ()
        end = self.insts[-1]
        op = end.op
        if op == "br":
            return (end.attr,)
        if op == "condbr":
            return tuple(end.attr)
        if op == "switch":
            default, cases = end.attr
            return (default, *(block for _, block in cases))
        return ()

    def __str__(self) -> str:
        return self.name


class Function:
    """A program's entry point, a static function or a callback.  ``blocks[0]`` is the entry.

    ``kind`` is "entry", "static", "callback", or "inline" for a static function that is always put in place of its calls.
    """

    __slots__ = ("blocks", "kind", "name", "params", "result", "span", "_names")

    def __init__(self, name: str, params: Iterable[Param] = (), result: Type = I64, kind: str = "entry", span: Span | None = None) -> None:
        self.name, self.params, self.result, self.kind, self.span = name, tuple(params), result, kind, span
        self._names: dict[str, int] = {}
        self.blocks: list[Block] = []
        self.block("entry")

    def block(self, name: str) -> Block:
        """A new block at the end, its name made unique."""
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        block = Block(f"{name}.{count}" if count else name)
        self.blocks.append(block)
        return block

    def instructions(self) -> Iterator[Inst]:
        for block in self.blocks:
            yield from block.insts

    def predecessors(self) -> dict[Block, list[Block]]:
        before: dict[Block, list[Block]] = {block: [] for block in self.blocks}
        for block in self.blocks:
            for after in block.successors():
                if block not in before[after]:
                    before[after].append(block)
        return before

    def __str__(self) -> str:
        numbers: dict[Value, str] = {}
        for inst in self.instructions():
            if inst.type is not NONE:
                numbers[inst] = f"%{len(numbers)}"
        params = ", ".join(f"{p}: {p.type}" for p in self.params)
        lines = [f"func {self.name}({params}) -> {self.result}"]
        for block in self.blocks:
            lines.append(f"{block.name}:")
            lines += [f"  {_show(inst, numbers)}" for inst in block.insts]
        return "\n".join(lines)


def _show(inst: Inst, numbers: dict[Value, str]) -> str:
    def name(value: object) -> str:
        return numbers.get(value, str(value)) if isinstance(value, Inst) else str(value)

    def attribute(value: object) -> str:
        if isinstance(value, tuple):
            return "(" + ", ".join(attribute(v) for v in value) + ")"
        return repr(value) if isinstance(value, bytes) else str(value)

    text = inst.op
    if inst.attr is not None and inst.attr != 0:
        text += f" {attribute(inst.attr)}"
    if inst.args:
        text += (", " if inst.op in ("condbr", "switch") else " ") + ", ".join(name(a) for a in inst.args)
    if inst.type is NONE:
        return text
    kind = f"{inst.type}" + (f" {inst.space}" if inst.space else "") + ("?" if inst.nullable else "")
    return f"{numbers[inst]} = {text} : {kind}"


class Program(Record):
    """An entry function and how it runs.

    ``context`` is what ctx points to: "pt_regs", "tracing" (u64 array of arguments, return value after them), "raw_tracepoint",
    "tracepoint", "perf_event", "syscall", "iter".  ``arity`` is the number of arguments of the traced function (fexit needs it to
    find the return value), or -1.  ``view`` is what the source takes ctx for where that differs: "pt_regs" in a tracing program means that
    loads of registers from ctx are to give the arguments, or the return value if it ``returns``, instead.
    """

    function: str
    name: str
    type: int
    context: str
    attach: tuple[AttachSpec, ...] = ()
    expected_attach_type: int = 0
    attach_function: str = ""
    arity: int = -1
    flags: int = 0
    span: Span | None = None
    view: str = ""
    returns: bool = False


class Module:
    """Everything of one compilation."""

    __slots__ = ("functions", "maps", "programs")

    def __init__(self) -> None:
        self.functions: dict[str, Function] = {}
        self.maps: dict[str, MapSpec] = {}
        self.programs: list[Program] = []

    def add(self, function: Function) -> Function:
        if function.name in self.functions:
            raise IRError(f"function {function.name} is defined twice")
        self.functions[function.name] = function
        return function

    def __str__(self) -> str:
        return "\n\n".join(str(function) for function in self.functions.values())
