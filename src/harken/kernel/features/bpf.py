"""Questions about bpf(2): what a program may contain, and what surrounds it."""

from __future__ import annotations

import errno
import struct

from ...abi import bpf as abi
from ...base.errors import KernelError
from ...formats.insn import (
    PSEUDO_CALL,
    PSEUDO_FUNC,
    PSEUDO_KFUNC,
    R0,
    R1,
    R2,
    R3,
    R4,
    R10,
    alu64,
    atomic,
    call,
    encode,
    exit_,
    jmp,
    jmp32,
    ld_imm64,
    mov64,
    movsx64,
    stx,
)
from ..bpf import attr, bpf, load_btf, try_load_program
from .asking import RETURN_0, Asking, yes
from .options import OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ...formats.insn import Insn
    from . import Answer

__all__ = ("PROBES", "loads", "create_map")

_FILTER, _TRACEPOINT, _PERF_EVENT = abi.BPF_PROG_TYPE_SOCKET_FILTER, abi.BPF_PROG_TYPE_TRACEPOINT, abi.BPF_PROG_TYPE_PERF_EVENT


def create_map(asking: Asking, kind: int, key: int, value: int, entries: int, flags: int = 0, **more: int) -> int:
    """BPF_MAP_CREATE as it is: a descriptor or ``-errno``."""
    attribute = attr(
        abi.MAP_CREATE, abi.MAP_CREATE_SIZE, map_type=kind, key_size=key, value_size=value, max_entries=entries, map_flags=flags, **more
    )
    return bpf(asking.kernel, abi.BPF_MAP_CREATE, attribute)


def loads(asking: Asking, what: str, insns: Iterable[Insn] | bytes, kind: int = _TRACEPOINT, **options: object) -> Answer:
    """Whether the verifier takes a program; ``what`` says what is special about it."""
    code = insns if isinstance(insns, bytes) else encode(insns)
    fd = try_load_program(asking.kernel, kind, code, name="harken_probe", **options)
    tried = f"bpf(BPF_PROG_LOAD, {what})"
    if fd >= 0:
        asking.kernel.close(fd)
        return yes(tried)
    return _no(asking, tried, -fd)


def _no(asking: Asking, tried: str, number: int) -> Answer:
    # EACCES is the verifier's verdict on a program that breaks its rules, so it is "no such feature" here; a lack of
    # privilege is EPERM for all of bpf(2).
    if number == errno.EACCES:
        number = errno.EINVAL
    return asking.no(tried, number, options=OPTIONS["bpf"][:1])


def _bpf(asking: Asking, _name: str) -> Answer:
    tried = "bpf(BPF_PROG_LOAD, tracepoint program)"
    fd = try_load_program(asking.kernel, _TRACEPOINT, RETURN_0, name="harken_probe")
    if fd >= 0:
        asking.kernel.close(fd)
        return yes(tried)
    return asking.no(tried, -fd, options=OPTIONS["bpf"])


def _needs_bpf(function: Callable[[Asking], Answer]) -> Callable[[Asking, str], Answer]:
    """A question that makes no sense without bpf(2): then its reason is the answer."""

    def ask(asking: Asking, _name: str) -> Answer:
        missing = asking.without("bpf")
        return function(asking) if missing is None else missing

    return ask


def _ringbuf(asking: Asking) -> Answer:
    fd = create_map(asking, abi.BPF_MAP_TYPE_RINGBUF, 0, 0, 4096)
    tried = "bpf(BPF_MAP_CREATE, ringbuf)"
    if fd >= 0:
        asking.kernel.close(fd)
        return yes(tried)
    return _no(asking, tried, -fd)


def _probe_read_space(asking: Asking) -> Answer:
    insns = (mov64(R1, R10), alu64("add", R1, imm=-8), mov64(R2, imm=8), mov64(R3, imm=0))
    return loads(asking, "probe_read_kernel", (*insns, call("probe_read_kernel"), mov64(R0, imm=0), exit_()))


def _atomic_fetch(asking: Asking) -> Answer:
    insns = (mov64(R1, imm=1), stx(8, R10, R1, -8), atomic("add", 8, R10, R1, -8, fetch=True), mov64(R0, imm=0), exit_())
    return loads(asking, "atomic add with BPF_FETCH", insns)


def _jmp32(asking: Asking) -> Answer:
    return loads(asking, "BPF_JMP32", (mov64(R0, imm=0), jmp32("eq", R0, imm=1, off=0), exit_()))


def _bounded_loops(asking: Asking) -> Answer:
    insns = (mov64(R0, imm=0), alu64("add", R0, imm=1), jmp("lt", R0, imm=4, off=-2), mov64(R0, imm=0), exit_())
    return loads(asking, "a loop of 4 turns", insns)


def _insns_1m(asking: Asking) -> Answer:
    return loads(asking, "4,200 instructions", encode((mov64(R0, imm=0),)) * 4199 + encode((exit_(),)))


def _callback_program(helper: str, before: tuple[Insn, ...], reference: int) -> tuple[Insn, ...]:
    """A program that hands a callback (returning 0) to a helper; ``reference`` is the argument register for the callback."""
    # The main function ends before the callback; ld_imm64 takes two slots and its imm is relative to the next slot of the pair.
    after: tuple[Insn, ...] = (mov64(R3, imm=0), mov64(R4, imm=0), call(helper), mov64(R0, imm=0), exit_())
    distance = 1 + len(after)
    return (*before, ld_imm64(reference, distance, PSEUDO_FUNC), *after, mov64(R0, imm=0), exit_())


def _with_functions(asking: Asking, insns: tuple[Insn, ...], what: str, callback_arguments: int) -> Answer:
    """Loads a program of two functions with BTF that says so (callbacks of helpers have been required to have it since 5.13)."""
    slots = sum(2 if insn[0] == 0x18 else 1 for insn in insns)
    try:
        btf = load_btf(asking.kernel, _btf(callback_arguments))
    except KernelError as error:
        return _no(asking, "bpf(BPF_BTF_LOAD)", error.errno or errno.EINVAL)
    with btf:
        return loads(asking, what, insns, _TRACEPOINT, btf_fd=btf.fd, func_info=struct.pack("<4I", 0, 4, slots - 2, 5))


def _btf(callback_arguments: int) -> bytes:
    """BTF of ``int main(int)`` (id 4) and of a static callback of 64-bit arguments (id 5), with a 4-byte and an 8-byte int."""
    names = b"\0int\0long\0main\0callback\0value\0"
    integer, long, main, callback, value = (
        names.index(b"\0" + word + b"\0") + 1 for word in (b"int", b"long", b"main", b"callback", b"value")
    )
    argument = struct.pack("<2I", value, 2)  # arguments of functions must have names
    types = struct.pack("<4I", integer, 1 << 24, 4, 1 << 24 | 32)  # [1] int
    types += struct.pack("<4I", long, 1 << 24, 8, 1 << 24 | 64)  # [2] long
    types += struct.pack("<3I", 0, 13 << 24 | 1, 1) + argument  # [3] int (long)
    types += struct.pack("<3I", main, 12 << 24 | 1, 3)  # [4] main, global
    types += struct.pack("<3I", callback, 12 << 24, 6)  # [5] callback, static
    types += struct.pack("<3I", 0, 13 << 24 | callback_arguments, 2) + argument * callback_arguments  # [6] its prototype
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(names)) + types + names


def _bpf_loop(asking: Asking) -> Answer:
    insns = _callback_program("loop", (mov64(R1, imm=1),), R2)
    return _with_functions(asking, insns, "helper loop", 2)


def _for_each(asking: Asking) -> Answer:
    fd = create_map(asking, abi.BPF_MAP_TYPE_ARRAY, 4, 4, 1)
    if fd < 0:
        return _no(asking, "bpf(BPF_MAP_CREATE, array)", -fd)
    try:
        insns = _callback_program("for_each_map_elem", (ld_imm64(R1, fd, abi.BPF_PSEUDO_MAP_FD),), R2)
        return _with_functions(asking, insns, "helper for_each_map_elem", 4)
    finally:
        asking.kernel.close(fd)


def _iter_num(asking: Asking) -> Answer:
    from . import Answer

    new, destroy = asking.btf_id("bpf_iter_num_new"), asking.btf_id("bpf_iter_num_destroy")
    if not new or not destroy:
        without = asking.without("btf_vmlinux")
        return (
            without
            if without is not None
            else Answer("no", "this kernel has no kfunc bpf_iter_num_new (its BTF does not list it)", 0, "BTF", "kernel")
        )
    kfunc = (0x85, 0, PSEUDO_KFUNC, 0)
    insns = (
        *(mov64(R1, R10), alu64("add", R1, imm=-8), mov64(R2, imm=0), mov64(R3, imm=4), (*kfunc, new)),
        *(mov64(R1, R10), alu64("add", R1, imm=-8), (*kfunc, destroy), mov64(R0, imm=0), exit_()),
    )
    return loads(asking, "kfunc bpf_iter_num_new", insns)


def _ktime_boot(asking: Asking) -> Answer:
    return loads(asking, "helper ktime_get_boot_ns", (call("ktime_get_boot_ns"), mov64(R0, imm=0), exit_()))


def _percpu_alloc_nmi(asking: Asking) -> Answer:
    fd = create_map(asking, abi.BPF_MAP_TYPE_HASH, 4, 4, 1, abi.BPF_F_NO_PREALLOC)
    if fd < 0:
        return _no(asking, "bpf(BPF_MAP_CREATE, hash, BPF_F_NO_PREALLOC)", -fd)
    try:
        insns = (
            *(mov64(R1, imm=0), stx(4, R10, R1, -4), mov64(R2, R10), alu64("add", R2, imm=-4), ld_imm64(R1, fd, abi.BPF_PSEUDO_MAP_FD)),
            *(call("map_lookup_elem"), mov64(R0, imm=0), exit_()),
        )
        return loads(asking, "perf_event program with a hash that allocates", insns, _PERF_EVENT)
    finally:
        asking.kernel.close(fd)


def _cpu_v4(asking: Asking) -> Answer:
    return loads(asking, "sign-extending move", (mov64(R1, imm=1), movsx64(R0, R1, 8), exit_()))


def _btf_func(asking: Asking) -> Answer:
    # A call between functions makes the kernel compare func_info with the program's functions.
    insns = ((0x85, 0, PSEUDO_CALL, 0, 2), mov64(R0, imm=0), exit_(), mov64(R0, imm=0), exit_())
    return _with_functions(asking, insns, "program with func_info", 0)


def _jit(asking: Asking) -> Answer:
    from . import Answer

    kernel = asking.kernel
    fd = try_load_program(kernel, _TRACEPOINT, RETURN_0, name="harken_probe")
    if fd < 0:
        return _no(asking, "bpf(BPF_PROG_LOAD)", -fd)
    try:
        info = bytearray(abi.PROG_INFO_SIZE)
        attribute = attr(abi.OBJ_GET_INFO, abi.OBJ_GET_INFO_SIZE, bpf_fd=fd, info_len=len(info), info=info)
        result = bpf(kernel, abi.BPF_OBJ_GET_INFO_BY_FD, attribute)
    finally:
        kernel.close(fd)
    tried = "bpf(BPF_OBJ_GET_INFO_BY_FD).jited_prog_len"
    if result < 0:
        return _no(asking, tried, -result)
    if struct.unpack_from("=I", info, abi.PROG_INFO["jited_prog_len"][0])[0]:
        return yes(tried)
    missing = asking.set_options("CONFIG_BPF_JIT")
    if missing:
        return Answer("no", "CONFIG_BPF_JIT is not set: programs are interpreted", 0, tried, "config:CONFIG_BPF_JIT")
    return Answer("no", "the JIT is off: programs are interpreted, some ten times slower", 0, tried, "sysctl:net.core.bpf_jit_enable")


def _bpf_stats(asking: Asking) -> Answer:
    attribute = attr(abi.ENABLE_STATS, abi.ENABLE_STATS_SIZE, type=abi.BPF_STATS_RUN_TIME)
    fd = bpf(asking.kernel, abi.BPF_ENABLE_STATS, attribute)
    tried = "bpf(BPF_ENABLE_STATS)"
    if fd >= 0:
        asking.kernel.close(fd)
        return yes(tried)
    from ..procfs import sysctl

    if fd == -errno.EINVAL and sysctl(asking.kernel, "kernel.bpf_stats_enabled") is not None:
        return yes("/proc/sys/kernel/bpf_stats_enabled", "through the sysctl only")
    return asking.no(tried, -fd, capabilities=("sys_admin",))


def _btf_vmlinux(asking: Asking, _name: str) -> Answer:
    from . import Answer

    path = "/sys/kernel/btf/vmlinux"
    try:
        data = asking.kernel.read(path, 24)
    except OSError as error:
        return asking.no(f"open({path})", error.errno or errno.EIO, capabilities=(), options=OPTIONS["btf_vmlinux"])
    if data[:2] in (b"\x9f\xeb", b"\xeb\x9f"):
        return yes(path)
    return Answer("no", f"{path} does not hold BTF", 0, path, "kernel")


def _btf_modules(asking: Asking, _name: str) -> Answer:
    from ..procfs import modules
    from . import Answer

    path = "/sys/kernel/btf"
    try:
        names = [name for name in asking.kernel.listdir(path) if name != "vmlinux"]
    except OSError as error:
        return asking.no(f"open({path})", error.errno or errno.EIO, capabilities=(), options=OPTIONS["btf_vmlinux"])
    if names:
        return yes(path, f"{len(names)} modules")
    options = asking.set_options("CONFIG_MODULES", "CONFIG_DEBUG_INFO_BTF_MODULES")
    if options:
        return Answer("no", f"{options[0]} is not set in this kernel", 0, path, f"config:{options[0]}")
    if modules(asking.kernel):
        return Answer("no", "modules are loaded but none has BTF", 0, path, "config:CONFIG_DEBUG_INFO_BTF_MODULES")
    return Answer("unknown", "could not tell: no module is loaded", 0, path, "moment")


def _prog_run(asking: Asking) -> Answer:
    kernel = asking.kernel
    tried = "bpf(BPF_PROG_TEST_RUN, raw_tracepoint program)"
    fd = try_load_program(kernel, abi.BPF_PROG_TYPE_RAW_TRACEPOINT, RETURN_0, name="harken_probe")
    if fd < 0:
        return _no(asking, "bpf(BPF_PROG_LOAD, raw_tracepoint)", -fd)
    try:
        result = bpf(kernel, abi.BPF_PROG_TEST_RUN, attr(abi.PROG_TEST_RUN, abi.PROG_TEST_RUN_SIZE, prog_fd=fd))
    finally:
        kernel.close(fd)
    return yes(tried) if result >= 0 else _no(asking, tried, -result)


PROBES: dict[str, Callable[[Asking, str], Answer]] = {
    "bpf": _bpf,
    "ringbuf": _needs_bpf(_ringbuf),
    "probe_read_space": _needs_bpf(_probe_read_space),
    "atomic_fetch": _needs_bpf(_atomic_fetch),
    "jmp32": _needs_bpf(_jmp32),
    "bounded_loops": _needs_bpf(_bounded_loops),
    "insns_1m": _needs_bpf(_insns_1m),
    "bpf_loop": _needs_bpf(_bpf_loop),
    "for_each": _needs_bpf(_for_each),
    "iter_num": _needs_bpf(_iter_num),
    "ktime_boot": _needs_bpf(_ktime_boot),
    "percpu_alloc_nmi": _needs_bpf(_percpu_alloc_nmi),
    "cpu_v4": _needs_bpf(_cpu_v4),
    "btf_func": _needs_bpf(_btf_func),
    "jit": _needs_bpf(_jit),
    "bpf_stats": _needs_bpf(_bpf_stats),
    "btf_vmlinux": _btf_vmlinux,
    "btf_modules": _btf_modules,
    "prog_run": _needs_bpf(_prog_run),
}
