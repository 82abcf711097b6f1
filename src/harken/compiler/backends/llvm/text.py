"""Legal IR as LLVM assembly text.

Integers keep their width, pointers are ``ptr``; division, shifts and byte swaps get BPF's meaning spelled out, because LLVM leaves
undefined what BPF defines.  Maps are external symbols, helpers are calls of small constant addresses (as libbpf's headers do it).
"""

from __future__ import annotations

from ....abi.bpf_helpers import HELPERS
from ...ir import Block, Const, Function, Inst, IRError, Param, Type, Value
from ...passes.stack import Placement
from ...target import Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("module_text", "MAP", "DATA", "RODATA_SYMBOL", "KSYM", "KFUNC", "SECTION")

#: prefixes of external symbols
MAP, DATA, RODATA_SYMBOL, KSYM, KFUNC = "map.", "data.", "rodata", "ksym.", "kfunc."
SECTION = "harken"
_PLAIN = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
_SHIFTS = {"shl": "shl", "lshr": "lshr", "ashr": "ashr"}


def _type(kind: Type) -> str:
    return "ptr" if kind.pointer else f"i{kind.bits or 64}"


def module_text(functions: Sequence[tuple[Function, Placement]], target: Target) -> str:
    """The text of a module; the entry comes first, callees after it, all in one section."""
    externals: dict[str, str] = {}
    by_name = {function.name: function for function, _ in functions}
    bodies = [
        _Writer(function, placement, target, externals, by_name, number == 0).text()
        for number, (function, placement) in enumerate(functions)
    ]
    return "\n".join(['target triple = "bpfel"', *externals.values(), *bodies]) + "\n"


class _Writer:
    def __init__(
        self,
        function: Function,
        placement: Placement,
        target: Target,
        externals: dict[str, str],
        functions: dict[str, Function],
        entry: bool,
    ) -> None:
        self.function, self.placement, self.target = function, placement, target
        self.externals, self.functions, self.entry = externals, functions, entry
        self.names: dict[Value, str] = {}
        self.lines: list[str] = []
        self.count = 0
        self.labels = {block: f"b{i}" for i, block in enumerate(function.blocks)}

    def fresh(self) -> str:
        self.count += 1
        return f"%t{self.count}"

    def do(self, text: str) -> str:
        name = self.fresh()
        self.lines.append(f"  {name} = {text}")
        return name

    def external(self, symbol: str, declaration: str) -> str:
        name = f'@"{symbol}"'
        self.externals.setdefault(symbol, f"{name} = {declaration}")
        return name

    def text(self) -> str:
        function = self.function
        params = []
        for param in function.params:
            self.names[param] = f"%p{param.index}"
            params.append(f"{_type(param.type)} %p{param.index}")
        if self.entry:
            params = ["ptr %ctx"]
        linkage = "" if self.entry else "internal "
        for block in function.blocks:
            for inst in block.insts:
                if inst.type.bits:
                    self.names[inst] = f"%v{len(self.names)}"
        # phis are written last: their operands may need conversions at the end of predecessors
        bodies: list[tuple[Block, list[str]]] = []
        for number, block in enumerate(function.blocks):
            self.lines = []
            if number == 0 and self.placement.size:
                self.lines.append(f"  %frame = alloca [{self.placement.size} x i8], align 8")
            for inst in block.insts:
                if inst.op != "phi":
                    self.instruction(inst)
            bodies.append((block, self.lines))
        out = [f'define {linkage}i64 @"{function.name}"({", ".join(params)}) noinline section "{SECTION}" {{']
        for block, lines in bodies:
            out.append(f"{self.labels[block]}:")
            for inst in block.insts:
                if inst.op == "phi":
                    # one entry per edge: a branch may come twice from the same block
                    pairs = ", ".join(
                        ", ".join([f"[ {self.constant_or_name(v, inst.type)}, %{self.labels[b]} ]"] * b.successors().count(block))
                        for v, b in zip(inst.args, inst.attr)
                    )
                    out.append(f"  {self.names[inst]} = phi {_type(inst.type)} {pairs}")
            out += lines
        out.append("}")
        return "\n".join(out)

    # -- operands
    def constant_or_name(self, value: Value, kind: Type) -> str:
        if isinstance(value, Const):
            if kind.pointer:
                return "null" if not value.value else f"inttoptr (i64 {value.value} to ptr)"
            return str(value.value)
        if isinstance(value, Inst) and value.op in ("alloca", "map", "rodata", "data", "funcref", "ksym", "ctx"):
            return self.names[value]
        if value.type.pointer != kind.pointer or value.type.bits != kind.bits:
            raise IRError(f"{self.function.name}: a phi mixes {value.type} and {kind}")
        return self.names[value]

    def use(self, value: Value, kind: Type | None = None) -> str:
        """The operand, converted to ``kind``."""
        kind = kind or value.type
        if isinstance(value, Const):
            return self.constant_or_name(value, kind)
        name = self.names[value]
        if value.type.pointer and not kind.pointer:
            name = self.do(f"ptrtoint ptr {name} to i64")
            return name if kind.bits == 64 else self.do(f"trunc i64 {name} to i{kind.bits}")
        if kind.pointer and not value.type.pointer:
            wide = self.use(value, Type(64))
            return self.do(f"inttoptr i64 {wide} to ptr")
        if kind.bits > value.type.bits:
            return self.do(f"zext i{value.type.bits} {name} to i{kind.bits}")
        if kind.bits < value.type.bits:
            return self.do(f"trunc i{value.type.bits} {name} to i{kind.bits}")
        return name

    def at(self, pointer: Value, offset: int) -> str:
        base = self.use(pointer, Type(64, True))
        return self.do(f"getelementptr i8, ptr {base}, i64 {offset}") if offset else base

    def give(self, inst: Inst, text: str) -> None:
        self.lines.append(f"  {self.names[inst]} = {text}")

    # -- instructions
    def instruction(self, inst: Inst) -> None:
        op = inst.op
        if op in _PLAIN:
            kind = _type(inst.type)
            self.give(inst, f"{_PLAIN[op]} {kind} {self.use(inst.args[0])}, {self.use(inst.args[1])}")
        elif op in _SHIFTS:
            self.shift(inst)
        elif op in ("udiv", "umod", "sdiv", "smod"):
            self.divide(inst)
        else:
            rule = getattr(self, "do_" + op, None)
            if rule is None:
                raise IRError(f"the LLVM back end has no {op}")
            rule(inst)

    def shift(self, inst: Inst) -> None:
        bits = inst.type.bits
        wide = 64 if bits == 64 else 32
        a = self.use(inst.args[0])
        if wide != bits:
            a = self.do(f"{'sext' if inst.op == 'ashr' else 'zext'} i{bits} {a} to i{wide}")
        b = self.use(inst.args[1], Type(wide))
        b = self.do(f"and i{wide} {b}, {wide - 1}")
        result = self.do(f"{_SHIFTS[inst.op]} i{wide} {a}, {b}")
        self.give(inst, f"trunc i{wide} {result} to i{bits}" if wide != bits else f"add i{bits} {result}, 0")

    def divide(self, inst: Inst) -> None:
        bits = inst.type.bits
        kind = f"i{bits}"
        a, b = self.use(inst.args[0]), self.use(inst.args[1])
        modulo = inst.op.endswith("mod")
        signed = inst.op[0] == "s"
        x, y = (self.absolute(a, kind), self.absolute(b, kind)) if signed else (a, b)
        zero = self.do(f"icmp eq {kind} {y}, 0")
        divisor = self.do(f"select i1 {zero}, {kind} 1, {kind} {y}")
        result = self.do(f"{'urem' if modulo else 'udiv'} {kind} {x}, {divisor}")
        result = self.do(f"select i1 {zero}, {kind} {x if modulo else 0}, {kind} {result}")
        if signed:
            sign = a if modulo else self.do(f"xor {kind} {a}, {b}")
            minus = self.do(f"icmp slt {kind} {sign}, 0")
            negated = self.do(f"sub {kind} 0, {result}")
            result = self.do(f"select i1 {minus}, {kind} {negated}, {kind} {result}")
        self.give(inst, f"add {kind} {result}, 0")

    def absolute(self, value: str, kind: str) -> str:
        minus = self.do(f"icmp slt {kind} {value}, 0")
        negated = self.do(f"sub {kind} 0, {value}")
        return self.do(f"select i1 {minus}, {kind} {negated}, {kind} {value}")

    def do_neg(self, inst: Inst) -> None:
        self.give(inst, f"sub {_type(inst.type)} 0, {self.use(inst.args[0])}")

    def do_not(self, inst: Inst) -> None:
        self.give(inst, f"xor {_type(inst.type)} {self.use(inst.args[0])}, -1")

    def do_bswap(self, inst: Inst) -> None:
        kind = _type(inst.type)
        if inst.type.bits < 16:
            self.give(inst, f"add {kind} {self.use(inst.args[0])}, 0")
            return
        self.externals.setdefault(f"bswap {kind}", f"declare {kind} @llvm.bswap.{kind}({kind})")
        self.give(inst, f"call {kind} @llvm.bswap.{kind}({kind} {self.use(inst.args[0])})")

    def do_icmp(self, inst: Inst) -> None:
        a, b = inst.args
        kind = a.type if not isinstance(a, Const) else b.type
        self.give(inst, f"icmp {inst.attr} {_type(kind)} {self.use(a, kind)}, {self.use(b, kind)}")

    def do_select(self, inst: Inst) -> None:
        condition, a, b = inst.args
        kind = _type(inst.type)
        self.give(inst, f"select i1 {self.use(condition)}, {kind} {self.use(a, inst.type)}, {kind} {self.use(b, inst.type)}")

    def resize(self, inst: Inst, op: str) -> None:
        a = inst.args[0]
        if a.type.bits == inst.type.bits:
            self.give(inst, f"add {_type(inst.type)} {self.use(a)}, 0")
        else:
            self.give(inst, f"{op} {_type(a.type)} {self.use(a)} to {_type(inst.type)}")

    def do_zext(self, inst: Inst) -> None:
        self.resize(inst, "zext")

    def do_sext(self, inst: Inst) -> None:
        self.resize(inst, "sext")

    def do_trunc(self, inst: Inst) -> None:
        self.resize(inst, "trunc")

    def do_ptrtoint(self, inst: Inst) -> None:
        self.give(inst, f"add i64 {self.use(inst.args[0], Type(64))}, 0")

    def do_inttoptr(self, inst: Inst) -> None:
        self.give(inst, f"getelementptr i8, ptr {self.use(inst.args[0], Type(64, True))}, i64 0")

    def do_gep(self, inst: Inst) -> None:
        self.give(inst, f"getelementptr i8, ptr {self.use(inst.args[0], Type(64, True))}, i64 {self.use(inst.args[1], Type(64))}")

    def do_alloca(self, inst: Inst) -> None:
        if inst in self.placement.offsets:
            self.give(inst, f"getelementptr i8, ptr %frame, i64 {self.placement.offsets[inst]}")

    def do_ctx(self, inst: Inst) -> None:
        self.give(inst, "getelementptr i8, ptr %ctx, i64 0")

    def do_map(self, inst: Inst) -> None:
        self.give(inst, f"getelementptr i8, ptr {self.external(MAP + inst.attr, 'external global i8')}, i64 0")

    def do_ksym(self, inst: Inst) -> None:
        self.give(inst, f"getelementptr i8, ptr {self.external(KSYM + inst.attr, 'external global i8')}, i64 0")

    def do_rodata(self, inst: Inst) -> None:
        self.give(inst, f"getelementptr i8, ptr {self.external(RODATA_SYMBOL, 'external global i8')}, i64 {inst.attr}")

    def do_data(self, inst: Inst) -> None:
        name, offset = inst.attr
        self.give(inst, f"getelementptr i8, ptr {self.external(DATA + name, 'external global i8')}, i64 {offset}")

    def do_funcref(self, inst: Inst) -> None:
        self.give(inst, f'getelementptr i8, ptr @"{inst.attr}", i64 0')

    def do_load(self, inst: Inst) -> None:
        place = self.at(inst.args[0], inst.attr)
        if inst.type.bits == 1:
            byte = self.do(f"load i8, ptr {place}, align 1")
            self.give(inst, f"trunc i8 {byte} to i1")
        else:
            self.give(inst, f"load {_type(inst.type)}, ptr {place}, align {inst.type.size}")

    def do_store(self, inst: Inst) -> None:
        pointer, value = inst.args
        place = self.at(pointer, inst.attr)
        kind = Type(8) if value.type.bits == 1 else value.type
        self.lines.append(f"  store {_type(kind)} {self.use(value, kind)}, ptr {place}, align {kind.size}")

    def do_atomic(self, inst: Inst) -> None:
        op, offset, fetch = inst.attr
        place = self.at(inst.args[0], offset)
        kind = _type(inst.args[1].type)
        value = self.use(inst.args[1])
        if op == "cmpxchg":
            pair = self.do(f"cmpxchg ptr {place}, {kind} {self.use(inst.args[2])}, {kind} {value} seq_cst seq_cst")
            self.give(inst, f"extractvalue {{ {kind}, i1 }} {pair}, 0")
            return
        text = f"atomicrmw {op} ptr {place}, {kind} {value} {'seq_cst' if fetch else 'monotonic'}"
        if inst.type.bits:
            self.give(inst, text)
        else:
            self.do(text)

    # -- calls
    def finish_call(self, inst: Inst, text: str) -> None:
        if not inst.type.bits:
            self.do(text)
        elif inst.type.pointer or inst.type.bits == 64:
            self.give(inst, text)
        else:
            wide = self.do(text)
            self.give(inst, f"trunc i64 {wide} to {_type(inst.type)}")

    def arguments(self, inst: Inst) -> str:
        out = []
        for arg in inst.args:
            kind = Type(64, True) if arg.type.pointer else Type(64)
            out.append(f"{_type(kind)} {self.use(arg, kind)}")
        return ", ".join(out)

    def do_helper(self, inst: Inst) -> None:
        number = HELPERS[inst.attr] if isinstance(inst.attr, str) else inst.attr
        result = "ptr" if inst.type.pointer else "i64"
        self.finish_call(inst, f"call {result} inttoptr (i64 {number} to ptr)({self.arguments(inst)})")

    def do_kfunc(self, inst: Inst) -> None:
        kinds = ", ".join("ptr" if arg.type.pointer else "i64" for arg in inst.args)
        result = "ptr" if inst.type.pointer else "i64"
        self.externals.setdefault(KFUNC + inst.attr, f'declare {result} @"{KFUNC}{inst.attr}"({kinds})')
        self.finish_call(inst, f'call {result} @"{KFUNC}{inst.attr}"({self.arguments(inst)})')

    def do_call(self, inst: Inst) -> None:
        params: tuple[Param, ...] = self.functions[inst.attr].params
        given = ", ".join(f"{_type(p.type)} {self.use(arg, p.type)}" for p, arg in zip(params, inst.args))
        self.finish_call(inst, f'call i64 @"{inst.attr}"({given})')

    # -- control
    def do_br(self, inst: Inst) -> None:
        self.lines.append(f"  br label %{self.labels[inst.attr]}")

    def do_condbr(self, inst: Inst) -> None:
        then, other = inst.attr
        self.lines.append(f"  br i1 {self.use(inst.args[0])}, label %{self.labels[then]}, label %{self.labels[other]}")

    def do_switch(self, inst: Inst) -> None:
        default, cases = inst.attr
        kind = inst.args[0].type
        mask = (1 << kind.bits) - 1
        arms = " ".join(f"{_type(kind)} {n & mask}, label %{self.labels[b]}" for n, b in cases)
        self.lines.append(f"  switch {_type(kind)} {self.use(inst.args[0])}, label %{self.labels[default]} [ {arms} ]")

    def do_ret(self, inst: Inst) -> None:
        value = inst.args[0] if inst.args else Const(0)
        self.lines.append(f"  ret i64 {self.use(value, Type(64))}")

    def do_unreachable(self, inst: Inst) -> None:
        self.lines.append("  ret i64 0")
