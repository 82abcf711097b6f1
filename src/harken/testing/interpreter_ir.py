"""A direct evaluator of IR: what a program means, before any pass has touched it.

Small and obvious on purpose: tests hold optimised and encoded programs against it.

Example:
    >>> from harken.compiler.ir import Builder, Function, Module
    >>> module = Module()
    >>> b = Builder(module.add(Function("f")))
    >>> _ = b.ret(b.binary("mul", b.const(6), b.const(7)))
    >>> Evaluator(module).call("f")
    42
"""

from __future__ import annotations

from ..compiler.ir import BINARY, Const, Function, Inst, Module, Value
from ..compiler.passes import fold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Evaluator", "Pointer")


class Pointer:
    """A place: ``memory`` holds bytes, and pointers that were stored at an offset."""

    __slots__ = ("memory", "offset", "pointers")

    def __init__(self, memory: bytearray, offset: int = 0, pointers: dict[int, Any] | None = None) -> None:
        self.memory, self.offset = memory, offset
        self.pointers: dict[int, Any] = {} if pointers is None else pointers

    def plus(self, distance: int) -> Pointer:
        return Pointer(self.memory, self.offset + distance, self.pointers)


class Evaluator:
    """Evaluates functions of a module.

    Attributes:
        ctx: the program's context as bytes; ``arg`` n reads u64 number n of it.
        maps: map name -> {key: Pointer to the value}.
        steps: instructions evaluated.
    """

    def __init__(self, module: Module, ctx: bytes = b"", limit: int = 200_000) -> None:
        self.module, self.ctx, self.limit = module, Pointer(bytearray(ctx)), limit
        self.maps: dict[str, dict[bytes, Pointer]] = {
            name: {i.to_bytes(4, "little"): Pointer(bytearray(spec.value_size)) for i in range(spec.max_entries)}
            if spec.type in (2, 6)
            else {}
            for name, spec in module.maps.items()
        }
        self.steps = 0

    def call(self, name: str, *args: Any) -> int:
        """The result of a function."""
        return self._run(self.module.functions[name], args)

    def _run(self, function: Function, args: tuple[Any, ...]) -> int:
        values: dict[Value, Any] = dict(zip(function.params, args))
        block, before = function.blocks[0], None
        while True:
            merged: dict[Value, Any] = {
                inst: self._get(values, inst.args[inst.attr.index(before)]) for inst in block.insts if inst.op == "phi"
            }
            values.update(merged)
            for inst in block.insts:
                self.steps += 1
                if self.steps > self.limit:
                    raise RuntimeError("too many steps")
                op = inst.op
                if op == "phi":
                    continue
                given = [self._get(values, arg) for arg in inst.args]
                if op == "ret":
                    return int(given[0]) if given else 0
                if op == "br":
                    before, block = block, inst.attr
                    break
                if op == "condbr":
                    before, block = block, inst.attr[0 if given[0] else 1]
                    break
                if op == "switch":
                    default, cases = inst.attr
                    mask = (1 << inst.args[0].type.bits) - 1
                    before, block = block, next((b for n, b in cases if n & mask == given[0]), default)
                    break
                values[inst] = self._value(inst, given)

    @staticmethod
    def _get(values: dict[Value, Any], value: Value) -> Any:
        return value.value if isinstance(value, Const) else values[value]

    def _value(self, inst: Inst, given: list[Any]) -> Any:
        op, bits = inst.op, inst.type.bits
        if op in BINARY:
            return fold.binary(op, given[0], given[1], bits)
        if op in ("neg", "not", "bswap"):
            return fold.unary(op, given[0], bits)
        if op == "icmp":
            a, b = given
            if isinstance(a, Pointer) or a is None:
                a = 1 if a is not None else 0
            return int(fold.compare(inst.attr, a, b, inst.args[0].type.bits))
        if op == "select":
            return given[1] if given[0] else given[2]
        if op in ("zext", "ptrtoint", "inttoptr"):
            return given[0]
        if op == "trunc":
            return given[0] & ((1 << bits) - 1)
        if op == "sext":
            return fold.signed(given[0], inst.args[0].type.bits) & ((1 << bits) - 1)
        rule = getattr(self, "_" + op)
        return rule(inst, *given)

    def _alloca(self, inst: Inst) -> Pointer:
        return Pointer(bytearray(inst.attr[0]))

    def _gep(self, inst: Inst, pointer: Pointer, distance: int) -> Pointer:
        return pointer.plus(fold.signed(distance, 64))

    def _load(self, inst: Inst, pointer: Pointer) -> Any:
        at = pointer.offset + inst.attr
        if inst.type.pointer and at in pointer.pointers:
            return pointer.pointers[at]
        size = inst.type.size
        if at < 0 or at + size > len(pointer.memory):
            raise IndexError(f"load of {size} bytes at {at} of {len(pointer.memory)}")
        return int.from_bytes(pointer.memory[at : at + size], "little")

    def _store(self, inst: Inst, pointer: Pointer, value: Any) -> None:
        at, size = pointer.offset + inst.attr, inst.args[1].type.size
        if at < 0 or at + size > len(pointer.memory):
            raise IndexError(f"store of {size} bytes at {at} of {len(pointer.memory)}")
        if isinstance(value, Pointer):
            pointer.pointers[at] = value
            return
        pointer.memory[at : at + size] = value.to_bytes(size, "little")

    def _copy(self, inst: Inst, to: Pointer, source: Pointer) -> int:
        to_offset, source_offset, size = inst.attr
        begin = source.offset + source_offset
        data = bytes(source.memory[begin : begin + size])
        assert len(data) == size
        to.memory[to.offset + to_offset : to.offset + to_offset + size] = data
        return 0

    def _zero(self, inst: Inst, to: Pointer) -> None:
        offset, size = inst.attr
        to.memory[to.offset + offset : to.offset + offset + size] = bytes(size)

    def _bytes(self, inst: Inst) -> Pointer:
        return Pointer(bytearray(inst.attr))

    def _atomic(self, inst: Inst, pointer: Pointer, value: int, expected: int = 0) -> int:
        op, offset, _ = inst.attr
        size, at = inst.args[1].type.size, pointer.offset + inst.attr[1]
        old = int.from_bytes(pointer.memory[at : at + size], "little")
        if op == "xchg":
            new = value
        elif op == "cmpxchg":
            new = value if old == expected else old
        else:
            new = fold.binary(op, old, value, 8 * size)
        del offset
        pointer.memory[at : at + size] = new.to_bytes(size, "little")
        return old

    def _ctx(self, inst: Inst) -> Pointer:
        return self.ctx

    def _arg(self, inst: Inst) -> int:
        at = self.ctx.offset + 8 * inst.attr
        return int.from_bytes(self.ctx.memory[at : at + 8], "little")

    def _map(self, inst: Inst) -> str:
        return str(inst.attr)

    def _lookup(self, inst: Inst, name: str, key: Pointer) -> Pointer | None:
        return self.maps[name].get(self._key(name, key))

    def _key(self, name: str, key: Pointer) -> bytes:
        return bytes(key.memory[key.offset : key.offset + self.module.maps[name].key_size])

    def _update(self, inst: Inst, name: str, key: Pointer, value: Pointer) -> int:
        table, spec = self.maps[name], self.module.maps[name]
        data = value.memory[value.offset : value.offset + spec.value_size]
        raw = self._key(name, key)
        if raw in table:
            if inst.attr == 1:
                return -17 & ((1 << 64) - 1)
            table[raw].memory[:] = data
        else:
            if len(table) >= spec.max_entries:
                return -7 & ((1 << 64) - 1)
            table[raw] = Pointer(bytearray(data))
        return 0

    def _delete(self, inst: Inst, name: str, key: Pointer) -> int:
        return 0 if self.maps[name].pop(self._key(name, key), None) is not None else -2 & ((1 << 64) - 1)

    def _call(self, inst: Inst, *args: Any) -> int:
        return self._run(self.module.functions[inst.attr], args)

    def _loop(self, inst: Inst, count: int, context: Any) -> int:
        function = self.module.functions[inst.attr]
        for index in range(count):
            if self._run(function, (index, context)):
                return index + 1
        return count

    def _for_each(self, inst: Inst, name: str, context: Any) -> int:
        function = self.module.functions[inst.attr]
        done = 0
        for key, value in list(self.maps[name].items()):
            done += 1
            if self._run(function, (name, Pointer(bytearray(key)), value, context)):
                break
        return done

    def _helper(self, inst: Inst, *args: Any) -> int:
        return {"get_current_pid_tgid": 4242 << 32 | 4243, "get_current_uid_gid": 1000 << 32 | 1000, "get_smp_processor_id": 0}[inst.attr]

    def _count_loss(self, inst: Inst) -> None:
        return None
