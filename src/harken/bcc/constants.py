"""The classes of constants that BCC offers: perf event types, program and attach types, XDP.

Facts: include/uapi/linux/perf_event.h, include/uapi/linux/bpf.h, include/uapi/linux/if_link.h; the numbers come from ``harken.abi``.
"""

from __future__ import annotations

from ..abi import bpf as _bpf
from ..abi import perf_event as _perf

__all__ = (
    "PerfType", "PerfHWConfig", "PerfSWConfig", "PerfEventSampleFormat", "BPFProgType", "BPFAttachType", "XDPAction", "XDPFlags",
    "DEBUG_LLVM_IR", "DEBUG_BPF", "DEBUG_PREPROCESSOR", "DEBUG_SOURCE", "DEBUG_BPF_REGISTER_STATE", "DEBUG_BTF",
)  # fmt: skip

DEBUG_LLVM_IR, DEBUG_BPF, DEBUG_PREPROCESSOR = 0x1, 0x2, 0x4
DEBUG_SOURCE, DEBUG_BPF_REGISTER_STATE, DEBUG_BTF = 0x8, 0x10, 0x20


def _numbered(*names: str) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _from_header(module: object, prefix: str, names: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names.split():
        number = getattr(module, prefix + name, None)
        if number is not None:
            found[name] = number
    return found


#: enum perf_type_id
PerfType = type(
    "PerfType",
    (),
    {
        "HARDWARE": _perf.PERF_TYPE_HARDWARE,
        "SOFTWARE": _perf.PERF_TYPE_SOFTWARE,
        "TRACEPOINT": _perf.PERF_TYPE_TRACEPOINT,
        "HW_CACHE": _perf.PERF_TYPE_HW_CACHE,
        "RAW": 4,
        "BREAKPOINT": 5,
    },
)

#: enum perf_hw_id
PerfHWConfig = type(
    "PerfHWConfig",
    (),
    _numbered(
        "CPU_CYCLES",
        "INSTRUCTIONS",
        "CACHE_REFERENCES",
        "CACHE_MISSES",
        "BRANCH_INSTRUCTIONS",
        "BRANCH_MISSES",
        "BUS_CYCLES",
        "STALLED_CYCLES_FRONTEND",
        "STALLED_CYCLES_BACKEND",
        "REF_CPU_CYCLES",
    ),
)

#: enum perf_sw_ids
PerfSWConfig = type(
    "PerfSWConfig",
    (),
    _numbered(
        "CPU_CLOCK",
        "TASK_CLOCK",
        "PAGE_FAULTS",
        "CONTEXT_SWITCHES",
        "CPU_MIGRATIONS",
        "PAGE_FAULTS_MIN",
        "PAGE_FAULTS_MAJ",
        "ALIGNMENT_FAULTS",
        "EMULATION_FAULTS",
        "DUMMY",
        "BPF_OUTPUT",
        "CGROUP_SWITCHES",
    ),
)

#: enum perf_event_sample_format
PerfEventSampleFormat = type(
    "PerfEventSampleFormat",
    (),
    {
        name: 1 << bit
        for bit, name in enumerate(
            "IP TID TIME ADDR READ CALLCHAIN ID CPU PERIOD STREAM_ID RAW BRANCH_STACK REGS_USER STACK_USER WEIGHT DATA_SRC IDENTIFIER "
            "TRANSACTION REGS_INTR PHYS_ADDR AUX CGROUP DATA_PAGE_SIZE CODE_PAGE_SIZE WEIGHT_STRUCT".split()
        )
    },
)

#: enum bpf_prog_type
BPFProgType = type(
    "BPFProgType",
    (),
    _from_header(
        _bpf,
        "BPF_PROG_TYPE_",
        "SOCKET_FILTER KPROBE SCHED_CLS SCHED_ACT TRACEPOINT XDP PERF_EVENT CGROUP_SKB CGROUP_SOCK LWT_IN LWT_OUT LWT_XMIT SOCK_OPS "
        "SK_SKB CGROUP_DEVICE SK_MSG RAW_TRACEPOINT CGROUP_SOCK_ADDR CGROUP_SOCKOPT TRACING LSM SK_LOOKUP SYSCALL",
    ),
)

#: enum bpf_attach_type
BPFAttachType = type(
    "BPFAttachType",
    (),
    _from_header(
        _bpf,
        "BPF_",
        "CGROUP_INET_INGRESS CGROUP_INET_EGRESS CGROUP_INET_SOCK_CREATE CGROUP_SOCK_OPS SK_SKB_STREAM_PARSER SK_SKB_STREAM_VERDICT "
        "CGROUP_DEVICE SK_MSG_VERDICT CGROUP_INET4_BIND CGROUP_INET6_BIND CGROUP_INET4_CONNECT CGROUP_INET6_CONNECT "
        "CGROUP_INET4_POST_BIND CGROUP_INET6_POST_BIND CGROUP_UDP4_SENDMSG CGROUP_UDP6_SENDMSG LIRC_MODE2 FLOW_DISSECTOR CGROUP_SYSCTL "
        "CGROUP_UDP4_RECVMSG CGROUP_UDP6_RECVMSG CGROUP_GETSOCKOPT CGROUP_SETSOCKOPT TRACE_RAW_TP TRACE_FENTRY TRACE_FEXIT MODIFY_RETURN "
        "LSM_MAC TRACE_ITER CGROUP_INET4_GETPEERNAME CGROUP_INET6_GETPEERNAME CGROUP_INET4_GETSOCKNAME CGROUP_INET6_GETSOCKNAME "
        "XDP_DEVMAP CGROUP_INET_SOCK_RELEASE XDP_CPUMAP SK_LOOKUP XDP SK_SKB_VERDICT",
    ),
)

#: enum xdp_action
XDPAction = type("XDPAction", (), _numbered("XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"))

#: XDP_FLAGS_*
XDPFlags = type("XDPFlags", (), {"UPDATE_IF_NOEXIST": 1, "SKB_MODE": 2, "DRV_MODE": 4, "HW_MODE": 8, "REPLACE": 16})
