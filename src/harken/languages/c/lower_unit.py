"""What the functions of one C program share while they are lowered: each other, tables, and global data.

Constant data lies in ``.rodata``.  Variables that the program writes lie in one array map, ``.data``, whose only value is addressed
directly (Linux 5.2); they keep their values between runs, and all CPUs share them, as globals of C do.
"""

from __future__ import annotations

from ...abi.bpf import BPF_MAP_TYPE_ARRAY
from ...base.ctype import Ptr
from ...base.diagnostics import Diagnostic, Source, Span, error
from ...base.errors import SourceError
from ...compiler.ir import I64, NONE, PTR, Builder, Const, Module, Param, Value
from ...compiler.ir import Function as Code
from ...formats.spec import MapSpec
from . import tree
from .lower_memory import Place, ir_type, is_aggregate, is_signed, is_wide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...base.ctype import CType
    from .lower_memory import MemoryCode

__all__ = ("UnitCode", "DATA")

#: the map of variables that the program writes
DATA = "harken_data"


class UnitCode:
    """A program being lowered.

    Attributes:
        tree: the parsed program.
        source: its text.
        module: where the code goes.
        tables: declared maps by name.
        cpus: how many CPUs the machine may have.
        machine: what uname(2) calls it.
        catalogue: what can be traced here (None in tests).
        uses: function name -> words for the planner ("retval", "registers", "stack", "usdt", ...).
        options: the compilation's options.
        problems: what was found wrong so far.
    """

    def __init__(
        self,
        parsed: tree.TranslationUnit,
        source: Source,
        cpus: int = 1,
        machine: str = "x86_64",
        catalogue: Any = None,
        options: Any = None,
    ) -> None:
        self.tree, self.source, self.cpus, self.machine, self.catalogue, self.options = parsed, source, cpus, machine, catalogue, options
        self.module = Module()
        self.tables = {table.name: table for table in parsed.tables}
        self.uses: dict[str, set[str]] = {}
        self.problems: list[Diagnostic] = []
        self._functions: dict[tree.Function, Code] = {}
        self._active: list[tree.Function] = []
        self._data = bytearray()
        self._offsets: dict[tree.Variable, int] = {}
        self._written: set[tree.Declaration] | None = None

    # -- functions
    def function(self, declaration: tree.Function, span: Span | None = None) -> Code:
        """The code of a function; lowers it when it is first asked for.

        Raises:
            SourceError: it calls itself, directly or through others.
        """
        found = self._functions.get(declaration)
        if found is not None:
            if declaration in self._active:
                way = " -> ".join(one.name for one in (*self._active[self._active.index(declaration) :], declaration))
                raise SourceError((error(f"recursion: {way}", span, "BPF programs cannot call themselves: use a bounded loop"),))
            return found
        if len(self._active) > 200:
            raise SourceError((error("the calls are nested too deep", span, "write fewer, larger functions"),))
        from .lower import Lowerer

        result = declaration.type.returns
        params: list[Param] = []
        hidden = is_aggregate(result) or is_wide(result)
        if hidden:
            params.append(Param(0, "result", PTR, "stack"))
        for parameter in declaration.params:
            kind = parameter.type
            machine = PTR if is_aggregate(kind) or is_wide(kind) else ir_type(kind)
            space = "stack" if machine is PTR and not _pointer(kind) else ""
            params.append(Param(len(params), parameter.name or f"unnamed{len(params)}", machine, space, kind))
        name = declaration.name
        number = 1
        while name in self.module.functions:
            number += 1
            name = f"{declaration.name}.{number}"
        code = self.module.add(Code(name, params, NONE if hidden or not result.size else ir_type(result), "inline", declaration.span))
        self._functions[declaration] = code
        self._active.append(declaration)
        Lowerer(self, declaration, code).build(params[1:] if hidden else params)
        self._active.pop()
        return code

    def callback(self, declaration: tree.Function, params: list[Param], span: Span | None) -> str:
        """The name of a function that the kernel can call with ``params``, which calls ``declaration`` with as many as that takes."""
        name = f"{declaration.name}.callback{len(params)}"
        if name not in self.module.functions:
            inner = self.function(declaration, span)
            code = self.module.add(Code(name, params, I64, "callback", declaration.span))
            b = Builder(code)
            given: list[Value] = []
            for param, own in zip(inner.params, params):
                given.append(own if param.type.pointer else b.resize(own, param.type, False))
            if len(given) < len(inner.params) or any(p.type.pointer != v.type.pointer for p, v in zip(inner.params, given)):
                raise SourceError((error(f"{declaration.name}() does not take what it is called back with", span),))
            result: Value = b.call(inner, *given)
            b.ret(b.resize(result, I64, True) if result.type.bits and not result.type.pointer else Const(0))
        return name

    def lower_all(self) -> None:
        """Lowers every function that can become a program, and collects what is wrong with them."""
        for declaration in self.tree.functions:
            if declaration.static or declaration.body is None or declaration in self._functions:
                continue
            try:
                self.function(declaration, declaration.span)
            except SourceError as problem:
                self.problems += problem.diagnostics
                self._active.clear()
        if self._data:
            size = (len(self._data) + 7) // 8 * 8
            contents = ((bytes(4), bytes(self._data) + bytes(size - len(self._data))),)
            self.module.maps[DATA] = MapSpec(DATA, BPF_MAP_TYPE_ARRAY, 4, size, 1, contents=contents)

    def use(self, function: tree.Function, word: str) -> None:
        """Notes what a function uses of its probe."""
        self.uses.setdefault(function.name, set()).add(word)

    # -- variables that outlive a call
    def variable(self, code: MemoryCode, declaration: tree.Variable) -> Place:
        """Where a global, static or kernel variable lies."""
        type = declaration.type
        if declaration.storage == "extern":
            return Place(code.b.insert("ksym", (), PTR, declaration.name, space="kernel"), type)
        if declaration.storage == "local":
            # a goto jumped over its declaration
            return code.new_place(type, declaration.name)
        if self._constant(declaration):
            data = self.data_of(declaration)
            if data is not None:
                return Place(code.b.bytes(data), type)
            if declaration.init is not None:
                # a table of addresses: made anew where it is used
                place = code.new_place(type, declaration.name)
                code.initialise(place, declaration.init)  # type: ignore[attr-defined]
                return place
        offset = self._offsets.get(declaration)
        if offset is None:
            data = self.data_of(declaration)
            if data is None:
                code.fail(f"the initial value of {declaration.name} is not constant", declaration.span)
            self._data += bytes(-len(self._data) % 8)
            offset = self._offsets[declaration] = len(self._data)
            self._data += data
        return Place(code.b.insert("data", (), PTR, (DATA, offset), space="map_value"), type)

    def _constant(self, declaration: tree.Variable) -> bool:
        if declaration.const:
            return True
        if self._written is None:
            self._written = set()
            for function in self.tree.functions:
                if function.body is not None:
                    for node in tree.walk(function.body):
                        self._note(node)
        return declaration.storage == "static" and declaration not in self._written and declaration.init is not None

    def _note(self, node: tree.Node) -> None:
        """Notes which variables a node changes, or gives away so that somebody may change them."""
        assert self._written is not None
        target: tree.Expr | None = None
        if isinstance(node, (tree.Assign, tree.Step)):
            target = node.target
        elif isinstance(node, tree.AddressOf) or (isinstance(node, tree.Cast) and node.kind == "decay"):
            target = node.operand
        elif isinstance(node, tree.Asm):
            for output in node.outputs:
                self._note(tree.AddressOf(output.expression.type, None, output.expression))
        while isinstance(target, (tree.Member, tree.Index, tree.Cast)):
            target = target.operand if isinstance(target, tree.Cast) else target.base
        if isinstance(target, tree.Name):
            self._written.add(target.declaration)

    def data_of(self, declaration: tree.Variable) -> bytes | None:
        """The initial bytes of a variable, or None if they are not constant."""
        size = declaration.type.strip().size
        if declaration.init is None:
            return bytes(size)
        if isinstance(declaration.init, tree.InitList):
            return self.constant_bytes(declaration.init, size)
        data = bytearray(size)
        return bytes(data) if _put(data, 0, 0, declaration.type, declaration.init) else None

    def constant_bytes(self, init: tree.InitList, size: int = 0) -> bytes | None:
        """The bytes of an initialiser of constants, or None if it has others."""
        data = bytearray(size or init.type.strip().size)
        return bytes(data) if _put_list(data, 0, init) else None


def _pointer(type: CType) -> bool:
    return isinstance(type.strip(), Ptr)


def _put_list(data: bytearray, base: int, init: tree.InitList) -> bool:
    return all(_put(data, base + entry.bit_offset, entry.bit_size, entry.type, entry.value) for entry in init.entries)


def _put(data: bytearray, bit: int, bits: int, type: CType, value: tree.Expr) -> bool:
    """Writes a constant at a bit offset; false if it is none."""
    if isinstance(value, tree.InitList):
        if is_aggregate(type):
            return _put_list(data, bit, value)
        return _put(data, bit, bits, type, value.entries[0].value) if value.entries else True
    if isinstance(value, tree.StringLiteral) and is_aggregate(type):
        at, size = bit // 8, type.strip().size
        text = value.data[:size]
        data[at : at + len(text)] = text
        return True
    number = fold_constant(value)
    if number is None:
        return False
    width = bits or type.strip().size * 8
    mask = ((1 << width) - 1) << bit % 8
    first, last = bit // 8, (bit + width + 7) // 8
    word = int.from_bytes(data[first:last], "little")
    word = word & ~mask | number << bit % 8 & mask
    data[first:last] = word.to_bytes(last - first, "little")
    return True


def fold_constant(node: tree.Expr) -> int | None:
    """The number that an expression of literals is, or None."""
    from ...compiler.passes import fold

    if isinstance(node, tree.Literal):
        return node.value
    size = node.type.strip().size * 8
    number: int | None = None
    if isinstance(node, tree.Cast) and node.kind in ("integral", "same", "null", "int_to_pointer", "pointer_to_int", "boolean", "pointer"):
        number = fold_constant(node.operand)
        if number is not None and node.kind == "boolean":
            return int(number != 0)
    elif isinstance(node, tree.Unary) and node.op in "-~!":
        number = fold_constant(node.operand)
        if number is not None:
            number = -number if node.op == "-" else ~number if node.op == "~" else int(not number)
    elif isinstance(node, tree.Binary):
        a, b = fold_constant(node.left), fold_constant(node.right)
        if a is None or b is None:
            return None
        signed = is_signed(node.left.type)
        names = {"+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor", "<<": "shl"}
        names |= {"/": "sdiv", "%": "smod", ">>": "ashr"} if signed else {"/": "udiv", "%": "umod", ">>": "lshr"}
        if node.op in names:
            mask = (1 << size) - 1
            number = fold.binary(names[node.op], a & mask, b & mask, size)
        else:
            compare = {"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "&&": a and b, "||": a or b}
            number = int(bool(compare[node.op]))
    elif isinstance(node, tree.Conditional) and node.then is not None:
        test = fold_constant(node.condition)
        return None if test is None else fold_constant(node.then if test else node.otherwise)
    if number is None or not size:
        return None
    number &= (1 << size) - 1
    return number - (1 << size) if is_signed(node.type) and number >> (size - 1) else number
