"""An interpreter of BPF programs: runs a Spec without a kernel, with faked helpers and checked memory.

It exists so that compilers are tested by results.  Reading a register or a stack byte that was never written, touching memory out of
bounds, leaving a ring-buffer record neither submitted nor discarded, or running too long raises ``Fault``.

Pointers are numbers: the upper 32 bits name a region, the lower 32 an offset in it, so that arithmetic just works and every access
can be checked.  ``memory`` holds what the program may read as kernel or user memory, by address.

Example:
    >>> from harken.formats.insn import alu64, encode, exit_, ldx
    >>> from harken.formats.spec import ProgramSpec, Spec
    >>> code = encode([ldx(8, 0, 1), alu64("add", 0, imm=1), exit_()])
    >>> Interpreter(Spec(programs=(ProgramSpec("p", 5, code),))).run("p", (41).to_bytes(8, "little"))
    42
"""

from __future__ import annotations

from ..abi.bpf_helpers import name_of
from ..formats.insn import LD_IMM64, decode
from ..formats.spec import MapSpec, ProgramSpec, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Helper = Callable[..., int]

__all__ = ("Fault", "FakeMap", "Interpreter")

_M64, _M32 = (1 << 64) - 1, (1 << 32) - 1
_SIZES = {0x10: 1, 0x08: 2, 0x00: 4, 0x18: 8}
_HASHES = (1, 5, 9, 10)
EFAULT, ENOENT, EEXIST, E2BIG, ENOSPC = 14, 2, 17, 7, 28


class Fault(Exception):
    """The program did something that the verifier exists to prevent."""


class _Region:
    """Memory; ``written`` marks initialised bytes where that matters (stacks)."""

    __slots__ = ("data", "name", "read_only", "written")

    def __init__(self, name: str, data: bytearray, read_only: bool = False, written: bytearray | None = None) -> None:
        self.name, self.data, self.read_only, self.written = name, data, read_only, written


class FakeMap:
    """A map: ``values`` are key -> (region number, bytes); arrays are full from the start."""

    def __init__(self, spec: MapSpec, number: int, machine: Interpreter) -> None:
        self.spec, self.number = spec, number
        self.values: dict[bytes, int] = {}
        #: what was sent through a ring or perf buffer
        self.records: list[bytes] = []
        #: refuse ring-buffer space from this many records on
        self.capacity = 1 << 30
        if spec.type in (2, 6):
            for index in range(spec.max_entries):
                self.values[index.to_bytes(4, "little")] = machine.region(f"{spec.name}[{index}]", bytearray(spec.value_size))
        for key, value in spec.contents:
            self.put(machine, key, value)
        if spec.frozen:
            for number_ in self.values.values():
                machine.regions[number_].read_only = True

    def put(self, machine: Interpreter, key: bytes, value: bytes, flags: int = 0) -> int:
        """Stores like bpf_map_update_elem; 0 or -errno."""
        number = self.values.get(key)
        if number is None:
            if flags == 2:
                return -ENOENT
            if self.spec.type not in _HASHES:
                return -E2BIG
            if len(self.values) >= self.spec.max_entries:
                if self.spec.type not in (9, 10):
                    return -E2BIG
                del self.values[next(iter(self.values))]
            self.values[key] = machine.region(self.spec.name, bytearray(value))
            return 0
        if flags == 1:
            return -EEXIST
        machine.regions[number].data[:] = value
        return 0


class Interpreter:
    """A machine with the maps and programs of a Spec.

    Attributes:
        maps: name -> FakeMap.
        helpers: helper name -> function(interpreter, r1 .. r5) -> int; replace entries to fake more.
        memory: kernel and user memory, address -> bytes.
        steps: instructions executed by the last run.
    """

    def __init__(self, spec: Spec, limit: int = 1_000_000) -> None:
        self.spec, self.limit = spec, limit
        self.regions: dict[int, _Region] = {}
        self._next = 1
        self.memory: dict[int, bytes] = {}
        self.time = 1_000_000
        self.pid_tgid = 4242 << 32 | 4243
        self.uid_gid = 1000 << 32 | 1000
        self.comm = b"interpreter"
        self.cpu = 0
        self.helpers: dict[str, Helper] = dict(_HELPERS)
        self.maps = {m.name: FakeMap(m, self.region(f"map {m.name}", bytearray()), self) for m in spec.maps}
        self._by_number = {m.number: m for m in self.maps.values()}
        self._reserved: dict[int, tuple[FakeMap, int]] = {}
        self.steps = 0
        self._program: ProgramSpec = ProgramSpec("", 0, b"")
        self._code: list[tuple[int, int, int, int, int] | None] = []

    # -- memory
    def region(self, name: str, data: bytearray, written: bytearray | None = None) -> int:
        """Adds memory; returns its number (its address is that number << 32)."""
        number = self._next
        self._next += 1
        self.regions[number] = _Region(name, data, False, written)
        return number

    def _find(self, address: int, size: int) -> tuple[_Region, int]:
        found = self.regions.get(address >> 32)
        offset = address & _M32
        if offset >> 31:
            found, offset = self.regions.get((address >> 32) + 1), offset - (1 << 32)
        if found is None:
            raise Fault(f"access to {address:#x}, which is nowhere")
        if offset < 0 or offset + size > len(found.data):
            raise Fault(f"{size} bytes at offset {offset} of {found.name}, which has {len(found.data)}")
        return found, offset

    def read(self, address: int, size: int) -> bytes:
        """Reads what a direct load may read."""
        found, offset = self._find(address, size)
        if found.written is not None and not all(found.written[offset : offset + size]):
            raise Fault(f"bytes {offset - len(found.data)} of {found.name} are read before they are written")
        return bytes(found.data[offset : offset + size])

    def write(self, address: int, data: bytes) -> None:
        found, offset = self._find(address, len(data))
        if found.read_only:
            raise Fault(f"{found.name} is read-only")
        found.data[offset : offset + len(data)] = data
        if found.written is not None:
            found.written[offset : offset + len(data)] = b"\1" * len(data)

    def foreign(self, address: int, size: int) -> bytes | None:
        """Reads kernel, user or own memory as probe_read does; None if it faults."""
        for base, data in self.memory.items():
            if base <= address and address + size <= base + len(data):
                return data[address - base : address - base + size]
        try:
            return self.read(address, size)
        except Fault:
            return None

    def map_at(self, handle: int) -> FakeMap:
        found = self._by_number.get(handle >> 32)
        if found is None:
            raise Fault(f"{handle:#x} is not a map")
        return found

    # -- running
    def run(self, name: str, ctx: bytes = b"") -> int:
        """Runs a program; returns its result as an unsigned number of 64 bits.

        Raises:
            Fault: the program misbehaved.
        """
        self._program = next(p for p in self.spec.programs if p.name == name)
        code = list(decode(self._program.insns))
        for reloc in self._program.relocs:
            insn = code[reloc.insn]
            assert insn is not None
            op, dst, _, off, imm = insn
            if reloc.kind == "map":
                code[reloc.insn] = (op, dst, 0, off, self.maps[reloc.symbol].number << 32)
            elif reloc.kind == "map_value":
                value = self.maps[reloc.symbol].values[bytes(4)]
                code[reloc.insn] = (op, dst, 0, off, (value << 32) + reloc.addend)
            else:
                raise Fault(f"no fake for {reloc.kind} {reloc.symbol}")
        self._code = code
        self.steps = 0
        context = self.region("ctx", bytearray(ctx))
        result = self.call(0, (context << 32,))
        if self._reserved:
            raise Fault("a ring-buffer record was neither submitted nor discarded")
        return result

    def call(self, pc: int, args: tuple[int, ...], depth: int = 0) -> int:
        """Runs from slot ``pc`` in a frame of its own until ``exit``."""
        if depth > 8:
            raise Fault("calls are nested too deep")
        stack = self.region("stack", bytearray(512), bytearray(512))
        registers: list[int | None] = [None] * 11
        registers[1 : 1 + len(args)] = args
        registers[10] = (stack << 32) + 512
        result = self._frame(pc, registers, depth)
        del self.regions[stack]
        return result

    def _frame(self, pc: int, registers: list[int | None], depth: int) -> int:
        code = self._code

        def get(r: int) -> int:
            value = registers[r]
            if value is None:
                raise Fault(f"slot {pc}: r{r} is read before it is written")
            return value

        while True:
            self.steps += 1
            if self.steps > self.limit:
                raise Fault("the program runs too long")
            if not 0 <= pc < len(code):
                raise Fault(f"jump to slot {pc}")
            insn = code[pc]
            if insn is None:
                raise Fault(f"jump into the middle of ld_imm64 at slot {pc}")
            op, dst, src, off, imm = insn
            kind = op & 7
            if kind in (7, 4):
                registers[dst] = _alu(op, dst, off, imm, get, get(src) if op & 8 and op & 0xF0 != 0xD0 else imm & _M64)
            elif kind == 1:
                size = _SIZES[op & 0x18]
                value = int.from_bytes(self.read(get(src) + off, size), "little", signed=op & 0xE0 == 0x80)
                registers[dst] = value & _M64
            elif kind == 2:
                size = _SIZES[op & 0x18]
                self.write(get(dst) + off, (imm & ((1 << 8 * size) - 1)).to_bytes(size, "little"))
            elif kind == 3:
                size = _SIZES[op & 0x18]
                if op & 0xE0 == 0xC0:
                    self._atomic(get(dst) + off, size, src, imm, registers, get)
                else:
                    self.write(get(dst) + off, (get(src) & ((1 << 8 * size) - 1)).to_bytes(size, "little"))
            elif op == LD_IMM64:
                registers[dst] = pc + 1 + imm - (1 << 32 if imm >> 31 & 1 else 0) if src == 4 else imm & _M64
                pc += 1
            elif op == 0x85:
                if src == 1:
                    values = tuple(r for r in registers[1:6])
                    registers[0] = self.call(pc + 1 + imm, values, depth + 1)  # type: ignore[arg-type]
                elif src == 0:
                    registers[0] = self._helper(imm, registers, depth)
                else:
                    raise Fault("no fakes for kernel functions")
                registers[1:6] = [None] * 5
            elif op == 0x95:
                return get(0)
            elif op == 0x05:
                pc += off
            elif op == 0x06:
                pc += imm
            elif _holds(op, get(dst), get(src) if op & 8 else imm & _M64):
                pc += off
            pc += 1

    def _atomic(self, address: int, size: int, src: int, imm: int, registers: list[int | None], get: Callable[[int], int]) -> None:
        if address % size:
            raise Fault("an atomic access is not aligned")
        mask = (1 << 8 * size) - 1
        old, value = int.from_bytes(self.read(address, size), "little"), get(src) & mask
        if imm == 0xF1:
            if old == get(0) & mask:
                self.write(address, value.to_bytes(size, "little"))
            registers[0] = old
            return
        new = {0x00: old + value, 0x40: old | value, 0x50: old & value, 0xA0: old ^ value, 0xE0: value}[imm & 0xF0] & mask
        self.write(address, new.to_bytes(size, "little"))
        if imm & 1:
            registers[src] = old

    def _helper(self, number: int, registers: list[int | None], depth: int) -> int:
        name = name_of(number)
        function = self.helpers.get(name)
        if function is None:
            raise Fault(f"no fake for helper {name}")
        if name in ("loop", "for_each_map_elem"):
            return function(self, registers, depth)
        count = function.__code__.co_argcount - 1
        args = registers[1 : 1 + count]
        if None in args:
            raise Fault(f"{name}: r{args.index(None) + 1} was not set")
        return function(self, *args) & _M64


def _alu(op: int, dst: int, off: int, imm: int, get: Callable[[int], int], b: int) -> int:
    wide = op & 7 == 7
    mask, bits = (_M64, 64) if wide else (_M32, 32)
    kind = op & 0xF0
    if kind == 0xD0:
        raw = get(dst) & ((1 << imm) - 1)
        swap = wide or op & 8
        return int.from_bytes(raw.to_bytes(imm // 8, "little"), "big") if swap else raw
    b &= mask
    if kind == 0xB0:
        if off:
            low = b & ((1 << off) - 1)
            return (low - (1 << off) if low >> (off - 1) else low) & mask
        return b
    a = get(dst) & mask
    if kind == 0x80:
        return -a & mask
    if kind in (0x30, 0x90) and off == 1:
        x, y = _signed(a, bits), _signed(b, bits)
        if not y:
            return a if kind == 0x90 else 0
        if kind == 0x30:
            quotient = abs(x) // abs(y)
            return (-quotient if (x < 0) != (y < 0) else quotient) & mask
        rest = abs(x) % abs(y)
        return (-rest if x < 0 else rest) & mask
    if kind == 0x00:
        return (a + b) & mask
    if kind == 0x10:
        return (a - b) & mask
    if kind == 0x20:
        return a * b & mask
    if kind == 0x30:
        return a // b if b else 0
    if kind == 0x40:
        return a | b
    if kind == 0x50:
        return a & b
    if kind == 0x60:
        return a << (b & (bits - 1)) & mask
    if kind == 0x70:
        return a >> (b & (bits - 1))
    if kind == 0x90:
        return a % b if b else a
    if kind == 0xA0:
        return a ^ b
    if kind == 0xC0:
        return _signed(a, bits) >> (b & (bits - 1)) & mask
    raise Fault(f"unknown opcode {op:#x}")


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def _holds(op: int, a: int, b: int) -> bool:
    bits = 64 if op & 7 == 5 else 32
    mask = (1 << bits) - 1
    a, b = a & mask, b & mask
    kind = op & 0xF0
    if kind in (0x60, 0x70, 0xC0, 0xD0):
        a, b = _signed(a, bits), _signed(b, bits)
    if kind == 0x10:
        return a == b
    if kind == 0x50:
        return a != b
    if kind == 0x40:
        return a & b != 0
    if kind in (0x20, 0x60):
        return a > b
    if kind in (0x30, 0x70):
        return a >= b
    if kind in (0xA0, 0xC0):
        return a < b
    if kind in (0xB0, 0xD0):
        return a <= b
    raise Fault(f"unknown jump {op:#x}")


# -- helpers


def _lookup(machine: Interpreter, handle: int, key: int) -> int:
    table = machine.map_at(handle)
    number = table.values.get(machine.read(key, table.spec.key_size))
    return 0 if number is None else number << 32


def _update(machine: Interpreter, handle: int, key: int, value: int, flags: int) -> int:
    table = machine.map_at(handle)
    return table.put(machine, machine.read(key, table.spec.key_size), machine.read(value, table.spec.value_size), flags)


def _delete(machine: Interpreter, handle: int, key: int) -> int:
    table = machine.map_at(handle)
    return 0 if table.values.pop(machine.read(key, table.spec.key_size), None) is not None else -ENOENT


def _probe_read(machine: Interpreter, to: int, size: int, source: int) -> int:
    data = machine.foreign(source, size) if size else b""
    machine.write(to, bytes(size) if data is None else data)
    return -EFAULT if data is None else 0


def _probe_read_str(machine: Interpreter, to: int, size: int, source: int) -> int:
    text = bytearray()
    while len(text) < size - 1:
        byte = machine.foreign(source + len(text), 1)
        if byte is None:
            machine.write(to, bytes(size))
            return -EFAULT
        if byte == b"\0":
            break
        text += byte
    machine.write(to, bytes(text) + b"\0")
    # the kernel promises nothing about the bytes behind the string, but counts them as written
    found, offset = machine._find(to, size)
    if found.written is not None:
        found.written[offset : offset + size] = b"\1" * size
    return len(text) + 1


def _ktime(machine: Interpreter) -> int:
    machine.time += 1000
    return machine.time


def _comm(machine: Interpreter, to: int, size: int) -> int:
    """As Linux 6.1: what follows the NUL stays as it was."""
    machine.write(to, machine.comm[: size - 1] + b"\0")
    return 0


def _ring_output(machine: Interpreter, handle: int, data: int, size: int, flags: int) -> int:
    table = machine.map_at(handle)
    record = machine.read(data, size)
    if len(table.records) >= table.capacity:
        return -11
    table.records.append(record)
    return 0


def _perf_output(machine: Interpreter, ctx: int, handle: int, flags: int, data: int, size: int) -> int:
    machine.read(ctx, 0)
    return _ring_output(machine, handle, data, size, 0)


def _ring_reserve(machine: Interpreter, handle: int, size: int, flags: int) -> int:
    table = machine.map_at(handle)
    if len(table.records) >= table.capacity:
        return 0
    number = machine.region(f"record of {table.spec.name}", bytearray(b"\xa5" * size))
    machine._reserved[number] = (table, size)
    return number << 32


def _ring_submit(machine: Interpreter, record: int, flags: int) -> int:
    return _ring_finish(machine, record, True)


def _ring_discard(machine: Interpreter, record: int, flags: int) -> int:
    return _ring_finish(machine, record, False)


def _ring_finish(machine: Interpreter, record: int, keep: bool) -> int:
    number = record >> 32
    if number not in machine._reserved or record & _M32:
        raise Fault("not a reserved record")
    table, _ = machine._reserved.pop(number)
    data = machine.regions.pop(number).data
    if keep:
        table.records.append(bytes(data))
    return 0


def _loop(machine: Interpreter, registers: list[int | None], depth: int) -> int:
    count, callback, context = registers[1], registers[2], registers[3]
    if count is None or callback is None or context is None:
        raise Fault("loop: an argument was not set")
    if count & _M32 > 1 << 23:
        return -E2BIG & _M64
    for index in range(count & _M32):
        if machine.call(callback, (index, context), depth + 1):
            return index + 1
    return count & _M32


def _for_each(machine: Interpreter, registers: list[int | None], depth: int) -> int:
    handle, callback, context = registers[1], registers[2], registers[3]
    if handle is None or callback is None or context is None:
        raise Fault("for_each_map_elem: an argument was not set")
    table = machine.map_at(handle)
    done = 0
    for key, number in list(table.values.items()):
        done += 1
        place = machine.region("key", bytearray(key))
        stop = machine.call(callback, (handle, place << 32, number << 32, context), depth + 1)
        del machine.regions[place]
        if stop:
            break
    return done


def _strncmp(machine: Interpreter, one: int, size: int, two: int) -> int:
    for i in range(size):
        a, b = machine.read(one + i, 1)[0], machine.read(two + i, 1)[0]
        if a != b or not a:
            return a - b
    return 0


_HELPERS: dict[str, Helper] = {
    "map_lookup_elem": _lookup,
    "map_update_elem": _update,
    "map_delete_elem": _delete,
    "probe_read": _probe_read,
    "probe_read_kernel": _probe_read,
    "probe_read_user": _probe_read,
    "probe_read_str": _probe_read_str,
    "probe_read_kernel_str": _probe_read_str,
    "probe_read_user_str": _probe_read_str,
    "ktime_get_ns": _ktime,
    "ktime_get_boot_ns": _ktime,
    "get_smp_processor_id": lambda machine: machine.cpu,
    "get_current_pid_tgid": lambda machine: machine.pid_tgid,
    "get_current_uid_gid": lambda machine: machine.uid_gid,
    "get_current_task": lambda machine: 0xFFFF_8880_0000_0000,
    "get_prandom_u32": lambda machine: 4,
    "get_current_comm": _comm,
    "ringbuf_output": _ring_output,
    "ringbuf_reserve": _ring_reserve,
    "ringbuf_submit": _ring_submit,
    "ringbuf_discard": _ring_discard,
    "perf_event_output": _perf_output,
    "loop": _loop,
    "for_each_map_elem": _for_each,
    "strncmp": _strncmp,
}
