"""The intermediate representation that every front end lowers to and every back end reads.

SSA over machine integers (``I1`` .. ``I64``) and pointers (``PTR``); aggregates live in memory.  It speaks of the domain (maps,
probe reads, events, kernel types), not of LLVM and not of BPF encodings, and it knows no kernel feature: ``passes.legalise`` turns
what a kernel lacks into what it has.

**Locals.**  Front ends make an ``alloca`` per variable and ``load``/``store`` it; ``passes.mem2reg`` promotes what is not
addressed.  An alloca may be of any size: the stack pass moves what does not fit the 512-byte frame to per-CPU scratch memory.

**Provenance.**  Each pointer carries a ``space``: where it points decides how it is read.

==============  ===============================  =======================================
space           what                             a load or copy through it becomes
==============  ===============================  =======================================
``stack``       alloca                           direct
``ctx``         the program's context            direct
``map_value``   result of a lookup, rodata       direct (after a null check if nullable)
``map_key``     key in a for-each callback       direct
``ring``        event record being built         direct
``btf``         BTF-typed kernel object          direct (the kernel handles faults)
``packet``      a network packet                 direct (after a comparison with its end)
``kernel``      any kernel address               probe_read_kernel
``user``        any user address                 probe_read_user
``any``         a kernel or a user address       probe_read: the address decides
``map``         a map itself                     not readable
==============  ===============================  =======================================

A front end that cannot know the space of a pointer (C) leaves it empty: ``passes.spaces`` finds it out by data flow once functions have
been inlined.

**Operations** (operands -> result; ``attr`` in brackets):

=============  ==========================================================================================================
add sub mul udiv sdiv umod smod and or xor shl lshr ashr   (a, b) -> same type; division by zero is BPF's: x/0 = 0, x%0 = x
neg not bswap  (a) -> same type
icmp           (a, b) [eq ne ult ule ugt uge slt sle sgt sge] -> I1; pointers may be compared with eq and ne
select         (condition, a, b) -> type of a
zext sext trunc  (a) -> wider or narrower integer
ptrtoint       (pointer) -> I64
inttoptr       (I64) -> PTR with the space given
gep            (pointer, I64 byte offset) -> PTR, same space
field          (pointer) [FieldRef] -> PTR: address of a kernel struct's field; its offset is relocatable (CO-RE)
alloca         () [(size, align, name)] -> PTR stack, contents undefined; all allocas stand in the entry block
load           (pointer) [byte offset] -> integer or PTR
store          (pointer, value) [byte offset]
copy           (destination, source) [(destination offset, source offset, size)] -> I64: 0, or -errno when the source faults
               (then the destination is zeroed)
zero           (destination) [(offset, size)]: fill with zero bytes
read_str       (destination, source, I64 size) [maximal size, constant] -> I64: length with the NUL, or -errno
atomic         (pointer, value[, expected]) [(add or and xor xchg cmpxchg, byte offset, fetch?)] -> old value if fetch
map            () [map name] -> PTR map
lookup         (map, key pointer) -> PTR map_value, nullable
update         (map, key pointer, value pointer) [flags] -> I64 status
delete         (map, key pointer) -> I64 status
for_each       (map, context pointer) [callback name] -> I64; callback(map, key PTR map_key, value PTR map_value, context PTR) -> I64
loop           (I64 count, context pointer) [callback name] -> I64; callback(I64 index, context PTR) -> I64 (1 stops)
bytes          () [bytes] -> PTR map_value: constant data in .rodata
data           () [(map name, offset)] -> PTR map_value: address in the only value of an array map (global variables)
record         () [(ring map name, fixed size, tail capacity)] -> PTR ring, nullable: space for one event
emit           (record[, I64 length]) [event id]: stores the id as the record's first u64 and submits; a refusal is counted as
               ("ring", event id); length, bounded here, only if a tail exists
discard        (record): gives the space back
count_loss     () [(kind, subject)]: adds one to a loss counter
ctx            () -> PTR ctx
arg            () [n] -> I64: the probe's nth argument, however the mechanism passes it
retval         () -> I64
reg            () [register name] -> I64
helper         (...) [helper name, "ktime_get_ns"] -> I64 or PTR
kfunc          (...) [name] -> I64 or PTR
ksym           () [symbol] -> PTR kernel: address of a kernel variable
call           (...) [function name] -> result of a static function
tail_call      (ctx, map, I32 index)
phi            (values...) [blocks, one per value]
br             () [block]
condbr         (I1) [(then block, else block)]
switch         (integer) [(default block, ((int, block), ...))]
ret            (I64)
unreachable    ()
=============  ==========================================================================================================

**Bounds.**  The verifier must see that an index, or a size passed to a helper, is bounded.  Bound it by ``and`` with a constant or by
``select(icmp ule x, C; x; C)`` on 64 bits: passes keep both, and the back end compares in the very register that is used afterwards.

Integers narrower than 64 bits have undefined upper bits nowhere: a back end keeps them zero-extended.

Example:
    >>> f = Function("probe")
    >>> b = Builder(f)
    >>> total = b.add(b.const(2), b.helper("ktime_get_ns"))
    >>> _ = b.ret(total)
    >>> print(f)
    func probe() -> i64
    entry:
      %0 = helper ktime_get_ns : i64
      %1 = add 2, %0 : i64
      ret %1
"""

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
    "Value", "Const", "Param", "Inst", "Block", "Function", "FieldRef", "Program", "Module", "Builder",
    "BINARY", "PREDICATES", "TERMINATORS", "PURE", "IRError", "verify",
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
        super().__init__(type)
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
        super().__init__(type, space, nullable, ctype)
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
        end = self.terminator
        if end is None or end.op in ("ret", "unreachable"):
            return ()
        if end.op == "br":
            return (end.attr,)
        if end.op == "condbr":
            return tuple(end.attr)
        default, cases = end.attr
        return (default, *(block for _, block in cases))

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

    def phi(self, type: Type, incoming: Iterable[tuple[Block, Value]], **pointer: Any) -> Inst:
        """A phi at the start of the current block."""
        pairs = list(incoming)
        inst = Inst("phi", [v for _, v in pairs], type, [b for b, _ in pairs], self.span, **pointer)
        position = next((i for i, other in enumerate(self.at.insts) if other.op != "phi"), len(self.at.insts))
        self.at.insts.insert(position, inst)
        return inst

    def ret(self, value: Value | None = None) -> Inst:
        return self.insert("ret", (value if value is not None else Const(0),), NONE)


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
