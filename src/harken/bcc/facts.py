"""What this kernel has: the questions that tools ask before they choose their probes.

Answers come from the catalogue (functions, tracepoints, types) and from probed features, not from names that a version happens to have:
a tool that asks ``support_kfunc()`` on a kernel that refuses such programs by policy gets False, and takes its kprobes.
"""

from __future__ import annotations

import os

from ..base.errors import HarkenError
from .names import Names, catalogue, kernel
from .utils import as_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Facts", "TRACEFS")

#: where the documentation of BCC's tools says that tracefs is
TRACEFS = "/sys/kernel/tracing"

_KPROBES = ("kprobe_multi", "kprobe_perf", "kprobe_tracefs", "fentry")
#: beginnings of names that look like functions and cannot be probed
_NEVER = ("_kbl_addr_", "__perf", "perf_", "__SCT__", "__pfx_", "__cfi_")


def has(*features: str) -> bool:
    """Whether the kernel has one of some features."""
    return any([catalogue().features.has(feature) for feature in features])


class _Text(str):
    """Text that scripts may treat as the bytes that it once was."""

    __slots__ = ()

    def decode(self, encoding: str = "", errors: str = "") -> str:
        """The text itself."""
        return str(self)


class Facts(Names):
    """The part of ``BPF`` that answers questions; static methods, except those about system calls."""

    _syscall_prefixes = (
        b"sys_",
        b"__x64_sys_",
        b"__x32_compat_sys_",
        b"__ia32_compat_sys_",
        b"__arm64_sys_",
        b"__s390x_sys_",
        b"__s390_sys_",
        b"__riscv_sys_",
    )
    _auto_includes = {
        "linux/time.h": ["time"],
        "linux/fs.h": ["fs", "file"],
        "linux/blkdev.h": ["bio", "request"],
        "linux/slab.h": ["alloc"],
        "linux/netdevice.h": ["sk_buff", "net_device"],
    }

    # -- kernel functions

    @staticmethod
    def get_kprobe_functions(event_re: Any) -> set[bytes]:
        """Kernel functions whose names match a regular expression and that probes can be put on.

        Empty on a kernel that can probe no function at all: tools then take their tracepoints.
        """
        import re

        pattern = as_bytes(event_re)
        if not has(*_KPROBES):
            return set()
        match = re.compile(pattern).match
        found = set()
        for name, _module in catalogue().functions():
            if name.startswith(_NEVER) or ".cold" in name:
                continue
            raw = name.encode()
            if match(raw):
                found.add(raw)
        return found

    # -- tracepoints

    @staticmethod
    def get_tracepoints(tp_re: Any) -> list[str]:
        """ "category:event" of the tracepoints that match a regular expression.  One may decode them, as funccount does."""
        import re

        match = re.compile(os.fsdecode(as_bytes(tp_re))).match
        return [_Text(f"{category}:{event}") for category, event in catalogue().tracepoints() if match(f"{category}:{event}")]

    @staticmethod
    def tracepoint_exists(category: Any, event: Any) -> bool:
        """Whether the kernel has a tracepoint."""
        try:
            return bool(catalogue().tracefs.has_event(os.fsdecode(as_bytes(category)), os.fsdecode(as_bytes(event))))
        except HarkenError:
            return False

    # -- types

    @staticmethod
    def kernel_struct_has_field(struct_name: Any, field_name: Any) -> int:
        """1 if a kernel struct has a member, 0 if not, -1 if there is no such struct (or no BTF)."""
        try:
            btf = catalogue().btf
            struct = None if btf is None else btf.struct(os.fsdecode(as_bytes(struct_name)))
        except HarkenError:
            struct = None
        if struct is None:
            return -1
        wanted = os.fsdecode(as_bytes(field_name))
        return int(struct.member(wanted) is not None)

    @staticmethod
    def kernel_enum_has_val(enum_name: Any, value_name: Any) -> int:
        """1 if an enumeration of the kernel has a value of that name, 0 if not, -1 if there is no such enumeration."""
        try:
            btf = catalogue().btf
            enum = None if btf is None else btf.enum(os.fsdecode(as_bytes(enum_name)))
        except HarkenError:
            enum = None
        if enum is None:
            return -1
        return int(os.fsdecode(as_bytes(value_name)) in enum.values)

    # -- kinds of programs

    @staticmethod
    def support_kfunc() -> bool:
        """Whether programs can be attached to kernel functions by trampolines (fentry, fexit)."""
        return has("fentry")

    @staticmethod
    def support_fmod_ret() -> bool:
        """Whether programs can change the results of kernel functions."""
        return has("fmod_ret")

    @staticmethod
    def support_lsm() -> bool:
        """Whether programs can be attached to hooks of Linux security modules."""
        return has("lsm")

    @staticmethod
    def support_raw_tracepoint() -> bool:
        """Whether programs can be attached to tracepoints without their records."""
        return has("raw_tracepoint")

    @staticmethod
    def support_raw_tracepoint_in_module() -> bool:
        """Whether that goes for tracepoints of modules, too (Linux 4.20)."""
        return has("raw_tracepoint") and Names.ksymname("bpf_trace_modules") != -1

    # -- system calls

    def get_syscall_prefix(self) -> bytes:
        """What this kernel puts before the names of the functions behind system calls (``__x64_sys_``)."""
        from ..abi.arch import MACHINES, for_machine

        machine = kernel().machine
        own: tuple[bytes, ...] = (for_machine(machine).syscall_prefix.encode(),) if machine in MACHINES else ()
        for prefix in (*own, *self._syscall_prefixes):
            if self.ksymname(prefix + b"bpf") != -1:
                return prefix
        return self._syscall_prefixes[0]

    def get_syscall_fnname(self, name: Any) -> bytes:
        """The kernel function behind a system call: "clone" -> ``b"__x64_sys_clone"``."""
        text: bytes = as_bytes(name)
        return self.get_syscall_prefix() + text

    def fix_syscall_fnname(self, name: Any) -> bytes:
        """A function behind a system call of any machine or age, as this kernel calls it; other names are unchanged."""
        text: bytes = as_bytes(name)
        for prefix in self._syscall_prefixes:
            if text.startswith(prefix):
                return self.get_syscall_fnname(text[len(prefix) :])
        return text

    # -- rests of older interfaces

    @classmethod
    def generate_auto_includes(cls, program_words: Any) -> str:
        """``#include`` lines for words that look like types of the kernel."""
        lines = []
        for header, keywords in cls._auto_includes.items():
            if any(keyword in word for keyword in keywords for word in program_words):
                lines.append(f"#include <{header}>\n")
        return "".join(lines)

    @staticmethod
    def add_prefix(prefix: bytes, name: bytes) -> bytes:
        """A name with a prefix, which it may have already."""
        return name if name.startswith(prefix) else prefix + name
