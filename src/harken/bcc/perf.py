"""perf events by their raw attributes (``bcc.perf``): ``Perf.perf_event_attr`` for ``BPF.attach_perf_event_raw``, and ``perf_event_open``.

Fact: ``struct perf_event_attr`` of include/uapi/linux/perf_event.h.
"""

from __future__ import annotations

import ctypes as ct
import sys

from ..abi import perf_event as abi
from ..base.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Perf",)


class _Period(ct.Union):
    _fields_ = [("sample_period", ct.c_ulong), ("sample_freq", ct.c_ulong)]


class _Wakeup(ct.Union):
    _fields_ = [("wakeup_events", ct.c_uint), ("wakeup_watermark", ct.c_uint)]


class _Config1(ct.Union):
    _fields_ = [("bp_addr", ct.c_ulong), ("kprobe_func", ct.c_ulong), ("uprobe_path", ct.c_ulong), ("config1", ct.c_ulong)]


class _Config2(ct.Union):
    _fields_ = [("bp_len", ct.c_ulong), ("kprobe_addr", ct.c_ulong), ("probe_offset", ct.c_ulong), ("config2", ct.c_ulong)]


_BITS = (
    "disabled inherit pinned exclusive exclude_user exclude_kernel exclude_hv exclude_idle mmap comm freq inherit_stat enable_on_exec task "
    "watermark precise_ip:2 mmap_data sample_id_all exclude_host exclude_guest exclude_callchain_kernel exclude_callchain_user mmap2 "
    "comm_exec use_clockid context_switch write_backward namespaces ksymbol bpf_event aux_output cgroup text_poke build_id inherit_thread "
    "remove_on_exec sigtrap __reserved_1:26"
).split()


def _bit(word: str) -> tuple[str, Any, int]:
    name, _, width = word.partition(":")
    return name, ct.c_ulong, int(width or 1)


class _Attr(ct.Structure):
    """``struct perf_event_attr``."""

    _anonymous_ = ("_sample_period_union", "_wakeup_events_union", "_bp_addr_union", "_bp_len_union")
    _fields_ = [
        ("type", ct.c_uint),
        ("size", ct.c_uint),
        ("config", ct.c_ulong),
        ("_sample_period_union", _Period),
        ("sample_type", ct.c_ulong),
        ("read_format", ct.c_ulong),
        *map(_bit, _BITS),
        ("_wakeup_events_union", _Wakeup),
        ("bp_type", ct.c_uint),
        ("_bp_addr_union", _Config1),
        ("_bp_len_union", _Config2),
        ("branch_sample_type", ct.c_ulong),
        ("sample_regs_user", ct.c_ulong),
        ("sample_stack_user", ct.c_uint),
        ("clockid", ct.c_int),
        ("sample_regs_intr", ct.c_ulong),
        ("aux_watermark", ct.c_uint),
        ("sample_max_stack", ct.c_uint16),
        ("__reserved_2", ct.c_uint16),
        ("aux_sample_size", ct.c_uint),
        ("__reserved_3", ct.c_uint),
        ("sig_data", ct.c_ulong),
    ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.size = ct.sizeof(self)

    def __setattr__(self, key: str, value: Any) -> None:
        if key not in _ATTR_NAMES and key != "pid":
            sys.stderr.write(f"Warning: perf_event_attr has no field {key}: the kernel will not see it\n")
        super().__setattr__(key, value)


_ATTR_NAMES = frozenset([field[0] for part in (_Attr, _Period, _Wakeup, _Config1, _Config2) for field in part._fields_])


class Perf:
    """Constants and calls of perf events."""

    perf_event_attr = _Attr

    PERF_TYPE_HARDWARE, PERF_TYPE_SOFTWARE = abi.PERF_TYPE_HARDWARE, abi.PERF_TYPE_SOFTWARE
    PERF_TYPE_TRACEPOINT, PERF_TYPE_HW_CACHE = abi.PERF_TYPE_TRACEPOINT, abi.PERF_TYPE_HW_CACHE
    PERF_SAMPLE_RAW = abi.PERF_SAMPLE_RAW
    PERF_FLAG_FD_CLOEXEC = abi.PERF_FLAG_FD_CLOEXEC
    PERF_EVENT_IOC_SET_FILTER, PERF_EVENT_IOC_ENABLE = abi.PERF_EVENT_IOC_SET_FILTER, abi.PERF_EVENT_IOC_ENABLE

    _open: list[Any] = []

    @staticmethod
    def perf_event_open(tpoint_id: int, pid: int = -1, ptype: int = abi.PERF_TYPE_TRACEPOINT, freq: int = 0) -> None:
        """Opens an event on every online CPU and leaves it open to the end of the process.

        Args:
            tpoint_id: ``config``: the number of a tracepoint, or of another event of type ``ptype``.
            freq: samples per second; 0: every event.

        Raises:
            OSError: the kernel refused.
        """
        from ..kernel.perf_event import Attr, open_event
        from ..kernel.procfs import cpus_online
        from .names import kernel

        attr = Attr(ptype, tpoint_id, period=0 if freq else 1, freq=freq, sample_type=abi.PERF_SAMPLE_RAW, wakeup=9999999)
        for cpu in cpus_online(kernel()):
            try:
                event = open_event(kernel(), attr, pid, cpu)
                if ptype == abi.PERF_TYPE_TRACEPOINT:
                    event.set_filter("common_pid == -17")
                event.enable()
            except KernelError as error:
                raise OSError(error.errno, error.message) from None
            Perf._open.append(event)
