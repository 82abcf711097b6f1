"""Calls of the program's own functions and of the compiler's (``__builtin_memcpy``, ``__sync_fetch_and_add``, ...)."""

from __future__ import annotations

from ...base.ctype import Void
from ...compiler.ir import I8, I16, I32, I64, PTR, Const, Param, Value, int_type
from . import tree
from .lower_memory import Place, Result, Wide, is_aggregate, is_pointer, is_signed, is_wide
from .lower_statements import StatementCode

__all__ = ("BuiltinCode",)

#: __sync_... and __atomic_... names -> (operation, whether the new value is returned)
_ATOMIC = {
    "fetch_and_add": ("add", False), "fetch_and_sub": ("sub", False), "fetch_and_or": ("or", False),
    "fetch_and_and": ("and", False), "fetch_and_xor": ("xor", False), "add_and_fetch": ("add", True),
    "sub_and_fetch": ("sub", True), "or_and_fetch": ("or", True), "and_and_fetch": ("and", True), "xor_and_fetch": ("xor", True),
    "fetch_add": ("add", False), "fetch_sub": ("sub", False), "fetch_or": ("or", False), "fetch_and": ("and", False),
    "fetch_xor": ("xor", False), "add_fetch": ("add", True), "sub_fetch": ("sub", True), "or_fetch": ("or", True),
    "and_fetch": ("and", True), "xor_fetch": ("xor", True),
}  # fmt: skip
_BARRIERS = ("sync_synchronize", "atomic_thread_fence", "atomic_signal_fence")
#: bytes that memset and memcmp handle one by one
_MOST = 512


class BuiltinCode(StatementCode):
    """Code of calls that need no kernel."""

    # -- the program's own functions
    def call_user(self, node: tree.Call) -> Result:
        b = self.b
        target = self.unit.function(node.function, node.span)
        args: list[Value] = []
        result = node.type
        place: Place | None = None
        if is_aggregate(result) or is_wide(result):
            place = self.new_place(result, "result")
            args.append(place.pointer)
        for expression in node.args[: len(node.function.params)]:
            value = self.rvalue(expression)
            if is_aggregate(expression.type) or is_wide(expression.type):
                copy = self.new_place(expression.type, "argument")
                self.store(copy, value)
                args.append(copy.pointer)
            else:
                args.append(self.value(value))
        for parameter in node.args[len(node.function.params) :]:
            self.rvalue(parameter)
        call = b.call(target, *args)
        if place is not None:
            return self.load(place)
        return Const(0, I32) if isinstance(result.strip(), Void) else call

    # -- helpers that call the program back
    def h_loop(self, node: tree.Call) -> Result:
        """``bpf_loop(count, function, context, 0)``."""
        count = self.b.resize(self.number(node.args[0]), I64, False)
        name = self.unit.callback(self._called(node.args[1]), [Param(0, "index"), Param(1, "context", PTR, "stack")], node.span)
        return self.b.resize(self.b.insert("loop", (count, self.number(node.args[2])), I64, name), self.scalar(node.type), False)

    def h_for_each_map_elem(self, node: tree.Call) -> Result:
        """``bpf_for_each_map_elem(map, function, context, 0)``."""
        table = self.argument(node.args[0])
        params = [Param(i, name, PTR, name) for i, name in enumerate(("map", "map_key", "map_value", "stack"))]
        name = self.unit.callback(self._called(node.args[1]), params, node.span)
        return self.b.resize(self.b.insert("for_each", (table, self.number(node.args[2])), I64, name), self.scalar(node.type), False)

    def _called(self, node: tree.Expr) -> tree.Function:
        while isinstance(node, (tree.Cast, tree.AddressOf)):
            node = node.operand
        if not isinstance(node, tree.Name) or not isinstance(node.declaration, tree.Function):
            self.fail("the function that is called back must be named here", node.span)
        return node.declaration

    def argument(self, node: tree.Expr) -> Value:
        """What a helper gets for an expression."""
        raise NotImplementedError

    # -- the compiler's
    def call_builtin(self, node: tree.Call) -> Result:
        name = node.function.name.strip("_")
        name = name.removeprefix("builtin_")
        if name.startswith(("sync_", "atomic_", "c11_atomic_")):
            return self.atomic_builtin(name, node)
        rule = getattr(self, "n_" + name, None)
        if rule is None:
            self.fail(f"{node.function.name}() is not supported", node.span)
        return rule(node)  # type: ignore[no-any-return]

    def size(self, node: tree.Expr, what: str) -> int:
        """A size that must be constant."""
        number = self.constant(node)
        if number is None:
            self.fail(f"the size given to {what} is not constant", node.span, "copy variable sizes with bpf_probe_read_kernel()")
        return number

    def n_memcpy(self, node: tree.Call) -> Result:
        to, source = self.pointer(self.number(node.args[0])), self.pointer(self.number(node.args[1]))
        size = self.size(node.args[2], "memcpy")
        if size:
            self.b.copy(to, source, size)
        return to

    def n_memmove(self, node: tree.Call) -> Result:
        """Through a copy, since the areas may overlap."""
        to, source = self.pointer(self.number(node.args[0])), self.pointer(self.number(node.args[1]))
        size = self.size(node.args[2], "memmove")
        if size:
            between = self.temporary(size, "moved")
            self.b.copy(between, source, size)
            self.b.copy(to, between, size)
        return to

    def n_memset(self, node: tree.Call) -> Result:
        to = self.pointer(self.number(node.args[0]))
        size = self.size(node.args[2], "memset")
        value = self.constant(node.args[1])
        if value is None:
            byte = self.b.binary(
                "mul", self.b.resize(self.b.resize(self.number(node.args[1]), I8, False), I64, False), Const(0x0101010101010101)
            )
            if size > _MOST:
                self.fail(f"memset of {size} bytes to a value that is not constant", node.span)
            position = 0
            while position < size:
                step = next(s for s in (8, 4, 2, 1) if size - position >= s)
                self.b.store(to, self.b.resize(byte, int_type(step), False), position)
                position += step
        elif value & 0xFF == 0:
            self.b.zero(to, size)
        else:
            self.code.store_bytes(bytes([value & 0xFF]) * size, to, 0)
        return to

    def n_bzero(self, node: tree.Call) -> Result:
        self.b.zero(self.pointer(self.number(node.args[0])), self.size(node.args[1], "bzero"))
        return Const(0, I32)

    def n_memcmp(self, node: tree.Call) -> Result:
        """Word by word, as big-endian numbers, so that the first byte that differs decides."""
        b = self.b
        left, right = self.pointer(self.number(node.args[0])), self.pointer(self.number(node.args[1]))
        size = self.size(node.args[2], "memcmp")
        if size > _MOST:
            self.fail(f"memcmp of {size} bytes is too long", node.span, f"the limit is {_MOST}")
        done = b.block("compared")
        results: list[tuple[object, Value]] = []
        position = 0
        while position < size:
            step = next(s for s in (8, 4, 2, 1) if size - position >= s)
            kind = int_type(step)
            x, y = b.load(left, kind, position), b.load(right, kind, position)
            differ, following = b.block("differ"), b.block("equal")
            b.condbr(b.icmp("ne", x, y), differ, following)
            b.goto(differ)
            if step > 1:
                x, y = b.unary("bswap", x), b.unary("bswap", y)
            results.append((b.at, b.select(b.icmp("ult", x, y), Const(-1, I32), Const(1, I32))))
            b.br(done)
            b.goto(following)
            position += step
        results.append((b.at, Const(0, I32)))
        b.br(done)
        b.goto(done)
        return b.phi(I32, results)  # type: ignore[arg-type]

    n_bcmp = n_memcmp

    def n_strlen(self, node: tree.Call) -> Result:
        argument = node.args[0]
        while isinstance(argument, tree.Cast):
            argument = argument.operand
        if not isinstance(argument, tree.StringLiteral):
            self.fail("strlen() of a string that is not constant", node.span, "bpf_probe_read_kernel_str() returns the length")
        return Const(len(argument.data.split(b"\0")[0]), self.scalar(node.type))

    def n_expect(self, node: tree.Call) -> Result:
        return self.rvalue(node.args[0])

    n_expect_with_probability = n_expect

    def n_assume(self, node: tree.Call) -> Result:
        return Const(0, I32)

    n_prefetch = n_assume

    def n_unreachable(self, node: tree.Call) -> Result:
        self.b.insert("unreachable")
        self.b.goto(self.b.block("unreached"))
        return Const(0, I32)

    n_trap = n_unreachable

    def n_constant_p(self, node: tree.Call) -> Result:
        return Const(int(self.constant(node.args[0]) is not None), I32)

    def n_object_size(self, node: tree.Call) -> Result:
        return Const(-1, self.scalar(node.type))

    def n_preserve_access_index(self, node: tree.Call) -> Result:
        return self.rvalue(node.args[0])

    def n_bswap16(self, node: tree.Call) -> Result:
        bits = {"16": I16, "32": I32, "64": I64}[node.function.name[-2:]]
        return self.b.resize(self.b.unary("bswap", self.b.resize(self.number(node.args[0]), bits, False)), self.scalar(node.type), False)

    n_bswap32 = n_bswap64 = n_bswap16

    def _bits(self, node: tree.Call) -> Value:
        """The operand of a bit-counting function as I64, zero-extended."""
        return self.b.resize(self.number(node.args[0]), I64, False)

    def n_clzll(self, node: tree.Call) -> Result:
        """By halving: which half has the highest bit, and so on."""
        b = self.b
        width = self.scalar(node.args[0].type).bits
        x, n = self._bits(node), Const(64 - width)
        total: Value = Const(63)
        for step in (32, 16, 8, 4, 2, 1):
            high = b.icmp("uge", x, Const(1 << step))
            total = b.sub(total, b.select(high, Const(step), Const(0)))
            x = b.select(high, b.binary("lshr", x, Const(step)), x)
        return b.resize(b.sub(total, n), I32, False)

    n_clz = n_clzl = n_clzll

    def n_ctzll(self, node: tree.Call) -> Result:
        b = self.b
        x = self._bits(node)
        total: Value = Const(0)
        for step in (32, 16, 8, 4, 2, 1):
            low = b.icmp("eq", b.binary("and", x, Const((1 << step) - 1)), Const(0))
            total = b.add(total, b.select(low, Const(step), Const(0)))
            x = b.select(low, b.binary("lshr", x, Const(step)), x)
        return b.resize(total, I32, False)

    n_ctz = n_ctzl = n_ctzll

    def n_ffsll(self, node: tree.Call) -> Result:
        b = self.b
        x = self._bits(node)
        return b.select(b.icmp("eq", x, Const(0)), Const(0, I32), b.binary("add", self.value(self.n_ctzll(node)), Const(1, I32)))

    n_ffs = n_ffsl = n_ffsll

    def n_popcountll(self, node: tree.Call) -> Result:
        b = self.b
        x = self._bits(node)
        for shift, mask in ((1, 0x5555555555555555), (2, 0x3333333333333333), (4, 0x0F0F0F0F0F0F0F0F)):
            x = b.add(b.binary("and", x, Const(mask)), b.binary("and", b.binary("lshr", x, Const(shift)), Const(mask)))
        return b.resize(b.binary("lshr", b.binary("mul", x, Const(0x0101010101010101)), Const(56)), I32, False)

    n_popcount = n_popcountl = n_popcountll

    def n_abs(self, node: tree.Call) -> Result:
        x = self.number(node.args[0])
        return self.b.select(self.b.icmp("slt", x, Const(0, x.type)), self.b.unary("neg", x), x)

    n_labs = n_llabs = n_abs

    def _overflow(self, node: tree.Call, op: str) -> Result:
        """``__builtin_add_overflow`` and ``_sub_``: exact for operands of up to 64 bits, by computing in 128."""
        target = self.pointer(self.number(node.args[2]))
        kind = node.args[2].type.strip().target  # type: ignore[attr-defined]
        sides = []
        for part in node.args[:2]:
            value = self.rvalue(part)
            low = self.b.resize(self.value(value), I64, is_signed(part.type))
            sides.append(Wide(low, self.b.binary("ashr", low, Const(63)) if is_signed(part.type) else Const(0)))
        exact = self.wide_binary(op, sides[0], sides[1], True)
        cut = self.b.resize(exact.low, self.scalar(kind), False)
        self.store(Place(target, kind), cut)
        low = self.b.resize(cut, I64, is_signed(kind))
        high = self.b.binary("ashr", low, Const(63)) if is_signed(kind) else Const(0)
        difference = self.b.binary("or", self.b.binary("xor", low, exact.low), self.b.binary("xor", high, exact.high))
        return self.b.resize(self.b.icmp("ne", difference, Const(0)), I8, False)

    def n_add_overflow(self, node: tree.Call) -> Result:
        return self._overflow(node, "+")

    def n_sub_overflow(self, node: tree.Call) -> Result:
        return self._overflow(node, "-")

    # -- atomics
    def atomic_builtin(self, name: str, node: tree.Call) -> Result:
        b = self.b
        if name in _BARRIERS:
            return Const(0, I32)
        short = name.removeprefix("c11_").removeprefix("sync_").removeprefix("atomic_")
        for size in ("_1", "_2", "_4", "_8", "_n"):
            short = short.removesuffix(size)
        pointer = self.pointer(self.number(node.args[0]))
        target = node.args[0].type.strip()
        kind = target.target if is_pointer(target) else node.type  # type: ignore[attr-defined]
        machine = self.scalar(kind, node.span)
        word = I64 if machine.pointer else machine
        place = Place(pointer, kind)

        def operand(position: int) -> Value:
            argument = node.args[position]
            value = self.value(self.convert(self.rvalue(argument), argument.type, kind))
            return b.to_int(value)

        if short in _ATOMIC:
            op, after = _ATOMIC[short]
            value = operand(1)
            if op == "sub":
                op, value = "add", b.unary("neg", value)
            used = not isinstance(node.type.strip(), Void) and node is not self.ignored
            old = b.atomic(op, pointer, value, 0, used or after)
            if not (used or after):
                return Const(0, machine if not machine.pointer else I64)
            return b.binary(op, old, value) if after else old
        if short in ("lock_test_and_set", "exchange"):
            return b.atomic("xchg", pointer, operand(1), 0, True)
        if short in ("val_compare_and_swap", "bool_compare_and_swap"):
            expected, new = operand(1), operand(2)
            old = b.insert("atomic", (pointer, new, expected), word, ("cmpxchg", 0, True))
            return b.resize(b.icmp("eq", old, expected), I8, False) if short[0] == "b" else old
        if short.startswith("compare_exchange"):
            where = self.pointer(self.number(node.args[1]))
            expected, new = b.load(where, word), operand(2)
            old = b.insert("atomic", (pointer, new, expected), word, ("cmpxchg", 0, True))
            b.store(where, old)
            return b.resize(b.icmp("eq", old, expected), I8, False)
        if short in ("load",):
            return self.load(place)
        if short in ("store", "lock_release"):
            self.store(place, operand(1) if short == "store" else Const(0, word))
            return Const(0, I32)
        return self.fail(f"{node.function.name}() is not supported", node.span)
