"""Questions with a parameter: types of maps and programs, helpers of a program type.

A map is created, a program is loaded; types that need special attributes get them.  A helper is there if the verifier goes on to
complain about its arguments instead of about the call.
"""

from __future__ import annotations

import errno
import struct

from ...abi import bpf as abi
from ...abi.bpf_helpers import HELPERS
from ...abi.bpf_names import MAP_TYPES, PROG_TYPES
from ...base.errors import KernelError
from ...formats.insn import R0, call, encode, exit_, mov64
from ..bpf import load_btf, load_with_log
from .asking import RETURN_0, Asking, yes
from .bpf import create_map
from .options import OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from . import Answer

__all__ = ("PROBES",)

_MAP_NUMBERS = {name: number for number, name in MAP_TYPES.items()}
_PROG_NUMBERS = {name: number for number, name in PROG_TYPES.items()}

#: (key size, value size, entries, flags) of map types that do not take (4, 4, 1, 0).
_MAPS: dict[str, tuple[int, int, int, int]] = {
    "stack_trace": (4, 8, 1, 0),
    "lpm_trie": (8, 4, 1, abi.BPF_F_NO_PREALLOC),
    "cgroup_storage": (8, 8, 0, 0),
    "percpu_cgroup_storage": (8, 8, 0, 0),
    "reuseport_sockarray": (4, 8, 1, 0),
    "queue": (0, 4, 1, 0),
    "stack": (0, 4, 1, 0),
    "bloom_filter": (0, 4, 1, 0),
    "ringbuf": (0, 0, 4096, 0),
    "user_ringbuf": (0, 0, 4096, 0),
    "arena": (0, 0, 1, abi.BPF_F_MMAPABLE),
    "insn_array": (4, 16, 1, 0),
    "rhash": (4, 4, 1, abi.BPF_F_NO_PREALLOC),
}
#: Map types that want BTF for key and value.
_STORAGE = ("sk_storage", "inode_storage", "task_storage", "cgrp_storage")

#: (expected attach type, flags) of program types that do not take (0, 0).
_PROGRAMS: dict[str, tuple[int, int]] = {
    "cgroup_sock_addr": (abi.BPF_CGROUP_INET4_CONNECT, 0),
    "cgroup_sockopt": (abi.BPF_CGROUP_GETSOCKOPT, 0),
    "sk_lookup": (abi.BPF_SK_LOOKUP, 0),
    "netfilter": (abi.BPF_NETFILTER, 0),
    "syscall": (0, abi.BPF_F_SLEEPABLE),
}


def _map(asking: Asking, name: str) -> Answer:
    kind = name.partition(":")[2]
    number = _MAP_NUMBERS.get(kind)
    if not number:
        raise KeyError(name)
    missing = asking.without("bpf")
    if missing is not None:
        return missing
    tried = f"bpf(BPF_MAP_CREATE, {kind})"
    key, value, entries, flags = _MAPS.get(kind, (4, 4, 1, 0))
    kernel = asking.kernel
    if kind in ("array_of_maps", "hash_of_maps"):
        inner = create_map(asking, abi.BPF_MAP_TYPE_ARRAY, 4, 4, 1)
        fd = create_map(asking, number, 4, 4, 1, 0, inner_map_fd=inner) if inner >= 0 else inner
        if inner >= 0:
            kernel.close(inner)
    elif kind in _STORAGE:
        try:
            with load_btf(kernel, _int_btf()) as btf:
                fd = create_map(asking, number, 4, 4, 0, abi.BPF_F_NO_PREALLOC, btf_fd=btf.fd, btf_key_type_id=1, btf_value_type_id=1)
        except KernelError as error:
            fd = -error.errno
    elif kind == "struct_ops":
        # Without the id of a type it is refused in any case: with EINVAL where the kernel knows the type only late.
        fd = create_map(asking, number, 4, 4, 1, 0, btf_vmlinux_value_type_id=1)
        if -fd in (524, errno.EINVAL) and asking.config.enabled("CONFIG_BPF_JIT") is not False and asking.features.has("btf_vmlinux"):
            from . import Answer

            return (
                yes(tried) if fd == -524 else Answer("unknown", "could not tell: it needs a kernel type to implement", -fd, tried, "moment")
            )
    else:
        fd = create_map(asking, number, key, value, entries, flags)
    if fd >= 0:
        kernel.close(fd)
        return yes(tried)
    return asking.no(tried, -fd, options=OPTIONS.get(name, ()))


def _int_btf() -> bytes:
    names = b"\0int\0"
    types = struct.pack("<4I", 1, 1 << 24, 4, 1 << 24 | 32)
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(names)) + types + names


def _program(asking: Asking, name: str) -> Answer:
    kind = name.partition(":")[2]
    number = _PROG_NUMBERS.get(kind)
    if not number:
        raise KeyError(name)
    missing = asking.without("bpf")
    if missing is not None:
        return missing
    if kind == "tracing":
        # Its parts are asked for one by one; the type is there if any of them is.
        for part in ("tp_btf", "iter", "fentry"):
            found = asking.features.answer(part)
            if found.state == "yes":
                return found
        return asking.features.answer("tp_btf")
    if kind == "lsm":
        return asking.features.answer("lsm")
    expected, flags = _PROGRAMS.get(kind, (0, 0))
    more = {"attach_btf_id": 1} if kind in ("ext", "struct_ops") else {}
    fd, log = load_with_log(asking.kernel, number, RETURN_0, name="harken_probe", expected_attach_type=expected, flags=flags, **more)
    tried = f"bpf(BPF_PROG_LOAD, {kind})"
    if fd >= 0:
        asking.kernel.close(fd)
        return yes(tried)
    # The verifier only looks at programs whose type exists: if it wrote something, or knows that the trivial program is wrong
    # for the type (EACCES, ENOTSUPP), the type is there.
    if fd in (-errno.EACCES, -524) or (fd == -errno.EINVAL and log.strip()):
        return yes(tried)
    return asking.no(tried, -fd, options=OPTIONS.get(name, ()))


def _helper(asking: Asking, name: str) -> Answer:
    from . import Answer

    _, kind, helper = (name.split(":") + ["", ""])[:3]
    number, program = HELPERS.get(helper), _PROG_NUMBERS.get(kind)
    if not number or not program:
        raise KeyError(name)
    missing = asking.without("bpf")
    if missing is not None:
        return missing
    more = {}
    expected, flags = _PROGRAMS.get(kind, (0, 0))
    if kind == "tracing":
        missing = asking.without("tp_btf")
        if missing is not None:
            return missing
        expected, more = abi.BPF_TRACE_RAW_TP, {"attach_btf_id": asking.btf_id("btf_trace_sched_process_exit") or 0}
    insns = encode((call(number), mov64(R0, imm=0), exit_()))
    fd, log = load_with_log(asking.kernel, program, insns, name="harken_probe", expected_attach_type=expected, flags=flags, **more)
    tried = f"bpf(BPF_PROG_LOAD, {kind} calling {helper})"
    if fd >= 0:
        asking.kernel.close(fd)
        return yes(tried)
    refused = ("invalid func ", "unknown func ", "cannot use helper", "program of this type cannot", "not supported")
    if fd in (-errno.EACCES, -errno.EINVAL) and log.strip():
        if any(words in log for words in refused):
            line = next((text for text in log.split("\n") if any(words in text for words in refused)), "")
            return Answer("no", f"{tried}: {line.strip()}", -fd, tried, "kernel")
        return yes(tried)
    return asking.no(tried, -fd)


PROBES: dict[str, Callable[[Asking, str], Answer]] = {"map": _map, "program": _program, "helper": _helper}
