"""``ustack(dwarf)``: stacks of programs without frame pointers; ``ustack(mixed)``: the same, with Python's frames between the others.

Most compiled code keeps no frame pointers (-fomit-frame-pointer is what -O2 means); where its frames lie is told by tables in its files
(.eh_frame), which no program in the kernel can read.  So the program takes what is needed to read them later: the registers with which the
process entered the kernel (or at which a uprobe met it), and a copy of the top of its stack.  The session unwinds it (``symbols.unwind``)
when the record arrives; so does perf record with --call-graph dwarf.

::

    u32 process id, u16 number of pairs, u16 number of return addresses | pairs | struct pt_regs |
    bytes of the stack, from the stack pointer upwards | return addresses

The pairs are Python's frames and their marks (``python_frames.write_marked``), in a place of fixed size; mode ``dwarf`` has none.  The
return addresses are those that return probes have taken from the stack (``return_probes``), 16 bytes each.

Such a value can be printed, and it can be the key of an aggregation: that map lies in harken and not in the kernel, since two equal
stacks are different bytes before they are unwound.  It can be nothing else; the check says so.

The copy is at most ``user_stack_bytes`` long (config; 16 KiB).  It is read in pieces that become smaller where memory ends, so that at most
64 bytes before that place are missing.  A kernel thread has no registers and gives an empty stack.

Facts: bpf_task_pt_regs (Linux 5.15) gives what perf takes as well (perf_get_regs_user); the registers are all saved on entry on x86-64 and
arm64.  A uprobe's context is the process's registers; a return probe's has the caller's program counter and stack pointer.
"""

from __future__ import annotations

from ...abi.arch import for_machine
from ...base.diagnostics import Span
from ..ir import I32, I64, PTR, Const, Value
from . import python_frames, return_probes
from . import types as T
from .code import Code, Val

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .builtin import Scope

__all__ = ("check", "lower")

_USER_PROBES = ("uprobe", "uretprobe", "usdt")
#: The largest piece that is copied, and the smallest.
_LARGE, _SMALL = 4096, 64
_HEAD = 8
#: What a value may take of scratch memory.
_MOST_SIZE = 32000
#: x86-64: code segments of processes have these bits set (their privilege level), arm64: exception level 0 has none of these.
_MODES = {"x86_64": ("cs", 3, 3), "aarch64": ("pstate", 0xF, 0)}


def check(scope: Scope, mode: str, limit: int, span: Span) -> T.Type:
    """The type; reports what the kernel lacks."""
    machine, _ = scope.catalogue.features.target()
    if scope.kind not in _USER_PROBES:
        answer = scope.catalogue.features.answer("helper:tracepoint:task_pt_regs")
        if answer.state == "no":
            scope.error(
                f"ustack({mode}) needs the process's registers, which this kernel gives to uprobes only",
                span,
                f"it takes Linux 5.15 with BTF ({answer.reason}); ustack follows frame pointers",
            )
    pairs = 0
    if mode == "mixed":
        limit = python_frames.check(scope, mode, limit, span).detail[1]
        pairs = limit + limit // 4 + 8  # few native frames run the interpreter
    room = return_probes.ROOM if return_probes.places(scope.catalogue, machine) is not None else 0
    kind = T.copied_stack(limit, machine, for_machine(machine).registers_size, scope.user_stack_bytes + room, pairs)
    if kind.size > _MOST_SIZE:
        scope.error(
            f"ustack({mode}, {limit}) would take {kind.size} bytes, at most {_MOST_SIZE} can be sent",
            span,
            "lower user_stack_bytes (config), or the number of frames",
        )
    return kind


def lower(code: Code, kind: T.Type, site: Any) -> Val:
    """The value, which can only be put into a record."""
    arch = for_machine(kind.detail[2])
    pairs = kind.detail[3]
    place = _HEAD + 16 * pairs  # of the registers
    start = place + arch.registers_size
    where = return_probes.places(site.catalogue, arch.name)
    most = kind.size - start - (return_probes.ROOM if where is not None else 0)

    def append(to: Value) -> Value:
        b = code.b
        b.store(to, b.resize(code.current_pid(), I32, False))
        b.store(to, Const(0, I32), 4)
        if pairs:
            b.store(to, b.resize(python_frames.write_marked(code, code.at(to, _HEAD), pairs), I32, False), 4)
        if site.kind in _USER_PROBES:
            registers = site.register(("ctx",))
        else:
            task = b.helper("get_current_task_btf", type=PTR, space="btf")
            registers = b.helper("task_pt_regs", task, type=PTR, space="kernel")
        length = b.alloca(8, "length")
        b.store(length, Const(0))
        failed = b.helper("probe_read_kernel", code.at(to, place), Const(arch.registers_size), registers)
        register, mask, wanted = _MODES[arch.name]
        mode = b.binary("and", b.load(to, offset=place + arch.registers[register]), Const(mask))

        def copy() -> None:
            pointer = b.load(to, offset=place + arch.registers[arch.sp])
            b.store(length, _copied(code, code.at(to, start), pointer, most))

        code.when(b.icmp("eq", failed, Const(0)), lambda: code.when(b.icmp("eq", mode, Const(wanted)), copy))
        # the verifier has followed every way to copy: from here on it need not know how much it was
        b.atomic("add", length, Const(0))
        got = b.load(length)
        size = b.add(b.select(b.icmp("ule", got, Const(most)), got, Const(0)), Const(start))
        if where is None:
            return size
        addresses, bytes_of_them = return_probes.taken(code, where)
        b.helper("probe_read_kernel", b.gep(to, size), bytes_of_them, addresses)
        b.store(to, b.resize(b.add(b.resize(b.load(to, I32, 4), I64, False), b.binary("shl", bytes_of_them, Const(12))), I32, False), 4)
        return b.add(size, bytes_of_them)

    return Val(kind, append=append)


def _copied(code: Code, to: Value, source: Value, most: int) -> Value:
    """Copies at most ``most`` bytes of the process's memory; returns how many there were."""
    b = code.b
    done = b.alloca(8, "copied")
    rest, whole = b.block("rest"), b.block("whole")
    position = 0
    while position < most:
        size = min(_LARGE, most - position)
        onward = b.block("copied")
        b.store(done, Const(position))
        failed = b.helper("probe_read_user", code.at(to, position), Const(size), b.add(source, Const(position)))
        b.condbr(b.icmp("eq", failed, Const(0)), onward, rest)
        b.goto(onward)
        position += size
    b.store(done, Const(most))
    b.br(whole)
    b.goto(rest)
    size = _LARGE // 2
    while size >= _SMALL:
        so_far = b.load(done)

        def read(size: int = size, so_far: Value = so_far) -> None:
            failed = b.helper("probe_read_user", b.gep(to, so_far), Const(size), b.add(source, so_far))
            code.when(b.icmp("eq", failed, Const(0)), lambda: _ignore(b.store(done, b.add(so_far, Const(size)))))

        # the last piece may be smaller than the others: never beyond the end
        code.when(b.icmp("ule", so_far, Const(most - size)) if size <= most else Const(0), read)
        size //= 2
    b.br(whole)
    b.goto(whole)
    return b.load(done)


def _ignore(_value: object) -> None:
    pass
