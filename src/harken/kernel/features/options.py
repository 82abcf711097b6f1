"""Options of the kernel's build without which a feature cannot be: they explain a "no", they never decide it."""

from __future__ import annotations

__all__ = ("OPTIONS",)

_KPROBE = ("CONFIG_KPROBES", "CONFIG_KPROBE_EVENTS")
_FPROBE = ("CONFIG_KPROBES", "CONFIG_FPROBE")
_UPROBE = ("CONFIG_UPROBES", "CONFIG_UPROBE_EVENTS")
_DIRECT = ("CONFIG_DEBUG_INFO_BTF", "CONFIG_FUNCTION_TRACER", "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS")

#: Feature -> options, the most telling first.
OPTIONS: dict[str, tuple[str, ...]] = {
    "kprobe_perf": _KPROBE,
    "kprobe_tracefs": _KPROBE,
    "kprobe_multi": _FPROBE,
    "kprobe_session": _FPROBE,
    "kprobe_args": (*_KPROBE, "CONFIG_PROBE_EVENTS_BTF_ARGS"),
    "fprobe_events": ("CONFIG_FPROBE", "CONFIG_FPROBE_EVENTS"),
    "event_probes": ("CONFIG_EPROBE_EVENTS",),
    "fentry": _DIRECT,
    "fexit": _DIRECT,
    "fsession": _DIRECT,
    "fmod_ret": _DIRECT,
    "uprobe_perf": _UPROBE,
    "uprobe_tracefs": _UPROBE,
    "uprobe_multi": _UPROBE,
    "uprobe_session": _UPROBE,
    "usdt_refcount": _UPROBE,
    "user_events": ("CONFIG_USER_EVENTS",),
    "tracepoint_perf": ("CONFIG_PERF_EVENTS", "CONFIG_EVENT_TRACING"),
    "raw_tracepoint": ("CONFIG_BPF_EVENTS",),
    "tp_btf": ("CONFIG_BPF_EVENTS", "CONFIG_DEBUG_INFO_BTF"),
    "iter": ("CONFIG_DEBUG_INFO_BTF",),
    "lsm": ("CONFIG_BPF_LSM",),
    "bpf": ("CONFIG_BPF_SYSCALL", "CONFIG_BPF_EVENTS"),
    "btf_vmlinux": ("CONFIG_DEBUG_INFO_BTF",),
    "perf_events": ("CONFIG_PERF_EVENTS",),
    "tracefs": ("CONFIG_TRACING",),
    "function_tracer": ("CONFIG_FUNCTION_TRACER", "CONFIG_DYNAMIC_FTRACE"),
    "function_graph": ("CONFIG_FUNCTION_GRAPH_TRACER",),
    "filter_functions": ("CONFIG_DYNAMIC_FTRACE",),
    "hist_triggers": ("CONFIG_HIST_TRIGGERS",),
    "synthetic_events": ("CONFIG_SYNTH_EVENTS",),
    "snapshot": ("CONFIG_TRACER_SNAPSHOT",),
    "stack_tracer": ("CONFIG_STACK_TRACER",),
    "syscall_tracepoints": ("CONFIG_FTRACE_SYSCALLS",),
    "cgroup2": ("CONFIG_CGROUPS",),
    "program:lirc_mode2": ("CONFIG_BPF_LIRC_MODE2",),
    "program:lsm": ("CONFIG_BPF_LSM",),
    "program:netfilter": ("CONFIG_NETFILTER_BPF_LINK",),
    "program:kprobe": ("CONFIG_BPF_EVENTS",),
    "map:xskmap": ("CONFIG_XDP_SOCKETS",),
    "map:sockmap": ("CONFIG_BPF_STREAM_PARSER",),
    "map:sockhash": ("CONFIG_BPF_STREAM_PARSER",),
    "map:cgroup_storage": ("CONFIG_CGROUP_BPF",),
    "map:percpu_cgroup_storage": ("CONFIG_CGROUP_BPF",),
    "map:inode_storage": ("CONFIG_BPF_LSM",),
}
