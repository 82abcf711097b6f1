"""Calls that need the kernel: BPF helpers, and the functions that BCC adds to C."""

from __future__ import annotations

from ...base.ctype import Ptr
from ...base.errors import HarkenError
from ...compiler.builtins.numbers import log2, operand_value
from ...compiler.ir import I8, I16, I32, I64, PTR, Const, Value
from . import tree
from .lower_memory import Result, is_pointer
from .lower_methods import MethodCode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...formats.stapsdt import Operand

__all__ = ("CallCode",)

#: helpers that return a pointer -> (space, whether it may be null)
_POINTERS: dict[str, tuple[str, bool]] = {
    "map_lookup_elem": ("map_value", True),
    "map_lookup_percpu_elem": ("map_value", True),
    "get_local_storage": ("map_value", False),
    "sk_storage_get": ("map_value", True),
    "inode_storage_get": ("map_value", True),
    "task_storage_get": ("map_value", True),
    "cgrp_storage_get": ("map_value", True),
    "ringbuf_reserve": ("ring", True),
    "get_current_task_btf": ("btf", False),
    "per_cpu_ptr": ("btf", True),
    "this_cpu_ptr": ("btf", False),
}
_PRINTK_ARGUMENTS = 3
_LOADS = {"load_byte": (1, I8), "load_half": (2, I16), "load_word": (4, I32), "load_dword": (8, I64)}


class CallCode(MethodCode):
    """Code of calls that need the kernel."""

    # -- helpers
    def call_helper(self, node: tree.Call) -> Result:
        """``bpf_NAME(...)``."""
        name = node.function.name
        rule = getattr(self, "h_" + name, None)
        if rule is not None:
            return rule(node)  # type: ignore[no-any-return]
        return self.helper_result(name, [self.argument(arg) for arg in node.args], node)

    def helper_result(self, name: str, args: list[Value], node: tree.Expr) -> Result:
        """A helper's call with its result as ``node``'s C type."""
        b = self.b
        if not node.type.strip().size:
            b.helper(name, *args)
            return Const(0, I32)
        if is_pointer(node.type):
            space, nullable = _POINTERS.get(name, ("btf" if name.startswith("sk") else "kernel", True))
            return b.helper(name, *args, type=PTR, space=space, nullable=nullable)
        return b.resize(b.helper(name, *args), self.scalar(node.type), False)

    def h_trace_printk(self, node: tree.Call) -> Result:
        """``bpf_trace_printk("format", ...)``: BCC's form without the format's size, and the kernel's with it."""
        b = self.b
        literal = literal_of(node.args[0]) if node.args else None
        if literal is None:
            if len(node.args) < 2:
                self.fail("bpf_trace_printk() takes a string literal, or an array and its size", node.span)
            return self.helper_result("trace_printk", [self.argument(arg) for arg in node.args[:5]], node)
        rest = list(node.args[1:])
        if rest and self.constant(rest[0]) == len(literal.data) and _conversions(literal.data) == len(rest) - 1:
            del rest[0]  # the size, as libbpf's programs write it
        values = [self.argument(arg) for arg in rest]
        text, size = b.bytes(literal.data), Const(len(literal.data))
        if len(values) <= _PRINTK_ARGUMENTS:
            return self.helper_result("trace_printk", [text, size, *values], node)
        array = self.temporary(8 * len(values), "arguments")
        for number, value in enumerate(values):
            b.store(array, b.to_int(value), 8 * number)
        return self.helper_result("trace_vprintk", [text, size, array, Const(8 * len(values))], node)

    def h_tail_call(self, node: tree.Call) -> Result:
        context, table, index = (self.argument(arg) for arg in node.args)
        self.b.insert("tail_call", (context, table, self.b.resize(index, I32, False)))
        return Const(0, I64)

    # -- functions of the dialect
    def call_dialect(self, node: tree.Call) -> Result:
        return getattr(self, "d_" + node.function.name)(node)  # type: ignore[no-any-return]

    def d_bpf_num_cpus(self, node: tree.Call) -> Result:
        return Const(self.unit.cpus, I32)

    def d_bpf_log2(self, node: tree.Call) -> Result:
        return self.b.resize(log2(self.code, self.b.resize(self.number(node.args[0]), I64, False)), I32, False)

    def d_bpf_log2l(self, node: tree.Call) -> Result:
        """One more than the logarithm: the index of a histogram's slot."""
        value = self.b.resize(self.number(node.args[0]), I64, False)
        return self.b.resize(self.b.add(log2(self.code, value), Const(1)), I32, False)

    def _packet(self, node: tree.Call) -> Result:
        """A number in network order from a packet; where the packet has ended, so does the program (with 0), as BPF_LD_ABS has it."""
        b = self.b
        size, machine = _LOADS[node.function.name]
        packet, offset = self.argument(node.args[0]), self.argument(node.args[1])
        place = self.temporary(8, "loaded")
        ended, there = b.block("packet.end"), b.block("loaded")
        b.condbr(b.icmp("ne", b.helper("skb_load_bytes", packet, offset, place, Const(size)), Const(0)), ended, there)
        b.goto(ended)
        b.exit()
        b.goto(there)
        value: Value = b.load(place, machine)
        if size > 1:
            value = b.unary("bswap", value)
        return b.resize(value, I64, False)

    d_load_byte = d_load_half = d_load_word = d_load_dword = _packet

    def d_bpf_dext_pkt(self, node: tree.Call) -> Result:
        """``width`` bits that begin ``first`` bits behind a byte of a packet."""
        first, width = self.constant(node.args[2]), self.constant(node.args[3])
        if first is None or width is None or not 0 < first + width <= 64:
            self.fail("the position and width of bits in a packet must be constant", node.span)
        b = self.b
        size = next(size for size in (1, 2, 4, 8) if first + width <= 8 * size)
        name = next(name for name, (bytes, _) in _LOADS.items() if bytes == size)
        function = tree.Function(name, node.function.type, kind="dialect")
        value = self.value(self._packet(tree.Call(node.function.type.returns, node.span, function, node.args[:2])))
        value = b.binary("lshr", value, Const(8 * size - first - width))
        value = value if width == 64 else b.binary("and", value, Const((1 << width) - 1))
        return b.resize(value, self.scalar(node.type), False)

    def d_bpf_dins_pkt(self, node: tree.Call) -> Result:
        """Sets whole bytes of a packet."""
        b = self.b
        first, width = self.constant(node.args[2]), self.constant(node.args[3])
        if first != 0 or width not in (8, 16, 32, 64):
            self.fail("only whole bytes of a packet can be set", node.span)
        packet, offset = self.argument(node.args[0]), self.argument(node.args[1])
        machine = {8: I8, 16: I16, 32: I32, 64: I64}[width]
        value: Value = b.resize(self.argument(node.args[4]), machine, False)
        place = self.temporary(8, "stored")
        b.store(place, b.unary("bswap", value) if width > 8 else value)
        b.helper("skb_store_bytes", packet, offset, place, Const(width // 8), Const(0))
        return Const(0, I32)

    # -- arguments of USDT probes
    def d_bpf_usdt_readarg(self, node: tree.Call) -> Result:
        """``bpf_usdt_readarg(1, ctx, &variable)``."""
        target = node.args[2]
        while isinstance(target, tree.Cast) and target.kind in ("pointer", "same"):
            target = target.operand
        kind = target.type.strip()
        pointee = kind.target if isinstance(kind, Ptr) else None
        if pointee is None or pointee.strip().size not in (1, 2, 4, 8):
            self.fail("bpf_usdt_readarg() sets a variable of 1, 2, 4 or 8 bytes", node.span)
        pointer = self.pointer(self.number(target))
        value = self._marker_argument(node)
        machine = {1: I8, 2: I16, 4: I32, 8: I64}[pointee.strip().size]
        self.b.store(pointer, self.b.resize(value, machine, False))
        return Const(0, I32)

    def d_bpf_usdt_readarg_p(self, node: tree.Call) -> Result:
        """``bpf_usdt_readarg_p(1, ctx, buffer, size)``: what the argument points to."""
        buffer, size = self.argument(node.args[2]), self.argument(node.args[3])
        pointer = self.b.to_pointer(self._marker_argument(node), "user")
        return self.b.resize(self.b.helper("probe_read_user", buffer, size, pointer), I32, False)

    def _marker_argument(self, node: tree.Call) -> Value:
        number = self.constant(node.args[0])
        if number is None or number < 1:
            self.fail("the number of a USDT argument must be a constant, the first is 1", node.span)
        self.unit.use(self.function, "reg")
        self.unit.use(self.function, "usdt")
        places = self._marker_places(node, number)
        kinds = list(dict.fromkeys(operand for _, operand in places))
        if len(kinds) == 1:
            return operand_value(self.code, kinds[0])
        by_low: dict[int, Operand] = {}
        for address, operand in places:
            low = address & 0xFFF  # what the loader's choice of an address does not change
            if by_low.setdefault(low, operand) != operand:
                self.fail(f"argument {number} cannot be told apart: two places of the marker end in {low:#x}", node.span)
        value = self.code.slot("argument", 0)
        b = self.b
        ip = b.binary("and", b.reg("ip" if self.unit.machine == "x86_64" else "pc"), Const(0xFFF))
        done = b.block("read")
        for low, operand in by_low.items():
            here, onward = b.block("place"), b.block("other")
            b.condbr(b.icmp("eq", ip, Const(low)), here, onward)
            b.goto(here)
            b.store(value, operand_value(self.code, operand))
            b.br(done)
            b.goto(onward)
        b.br(done)
        b.goto(done)
        return b.load(value)

    def _marker_places(self, node: tree.Call, number: int) -> list[tuple[int, Operand]]:
        """(address, where argument ``number`` is) of every place of the markers that run this function."""
        from ...formats.stapsdt import arguments

        contexts = getattr(self.unit.options, "usdt", ()) or ()
        found = []
        for context in contexts:
            for function, markers in context:
                if function != self.function.name:
                    continue
                for address, text, machine in markers:
                    try:
                        operands = arguments(text, machine, partial=True)
                    except HarkenError as problem:
                        self.fail(problem.message, node.span)
                    if number > len(operands):
                        self.fail(f"the marker has no argument {number}: it has {len(operands)}", node.span)
                    operand = operands[number - 1]
                    if operand.obstacle:
                        self.fail(f"argument {number} of the marker cannot be read: {operand.obstacle}", node.span)
                    found.append((address, operand))
        if not found:
            self.fail(
                f"no USDT marker runs {self.function.name}()",
                node.span,
                f"USDT(...).enable_probe(NAME, '{self.function.name}') names it, and BPF(usdt_contexts=[...]) gets it",
            )
        return found


def literal_of(node: tree.Expr) -> tree.StringLiteral | None:
    """The string literal behind an argument, or None."""
    while isinstance(node, tree.Cast):
        node = node.operand
    return node if isinstance(node, tree.StringLiteral) else None


def _conversions(text: bytes) -> int:
    return text.replace(b"%%", b"").count(b"%")
