"""Fakes of the kernel's BPF helpers for the interpreter.

A fake takes the interpreter and as many of r1 to r5 as it names; ``loop`` and ``for_each_map_elem``, which call back, take all registers
and the depth of calls.
"""

from __future__ import annotations

import errno

from .interpreter_memory import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .interpreter import Interpreter

    Helper = Callable[..., int]

__all__ = ("HELPERS",)

_M64, _M32 = (1 << 64) - 1, (1 << 32) - 1


def _lookup(machine: Interpreter, handle: int, key: int) -> int:
    table = machine.map_at(handle)
    number = table.values.get(machine.read(key, table.spec.key_size))
    return 0 if number is None else number << 32


def _update(machine: Interpreter, handle: int, key: int, value: int, flags: int) -> int:
    table = machine.map_at(handle)
    return table.put(machine, machine.read(key, table.spec.key_size), machine.read(value, table.spec.value_size), flags)


def _delete(machine: Interpreter, handle: int, key: int) -> int:
    table = machine.map_at(handle)
    return 0 if table.values.pop(machine.read(key, table.spec.key_size), None) is not None else -errno.ENOENT


def _probe_read(machine: Interpreter, to: int, size: int, source: int) -> int:
    data = machine.foreign(source, size) if size else b""
    machine.write(to, bytes(size) if data is None else data)
    return -errno.EFAULT if data is None else 0


def _probe_read_str(machine: Interpreter, to: int, size: int, source: int) -> int:
    text = bytearray()
    while len(text) < size - 1:
        byte = machine.foreign(source + len(text), 1)
        if byte is None:
            machine.write(to, bytes(size))
            return -errno.EFAULT
        if byte == b"\0":
            break
        text += byte
    machine.write(to, bytes(text) + b"\0")
    # the kernel promises nothing about the bytes behind the string, but counts them as written
    found, offset = machine.find(to, size)
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
        return -errno.EAGAIN
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
    machine.reserved[number] = (table, size)
    return number << 32


def _ring_submit(machine: Interpreter, record: int, flags: int) -> int:
    return _ring_finish(machine, record, True)


def _ring_discard(machine: Interpreter, record: int, flags: int) -> int:
    return _ring_finish(machine, record, False)


def _ring_finish(machine: Interpreter, record: int, keep: bool) -> int:
    number = record >> 32
    if number not in machine.reserved or record & _M32:
        raise Fault("not a reserved record")
    table, _ = machine.reserved.pop(number)
    data = machine.regions.pop(number).data
    if keep:
        table.records.append(bytes(data))
    return 0


def _loop(machine: Interpreter, registers: list[int | None], depth: int) -> int:
    count, callback, context = registers[1], registers[2], registers[3]
    if count is None or callback is None or context is None:
        raise Fault("loop: an argument was not set")
    if count & _M32 > 1 << 23:
        return -errno.E2BIG & _M64
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


HELPERS: dict[str, Helper] = {
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
