"""What the doctor says about each feature: its purpose, what serves instead, when it came, and the settings that matter.

The versions are documentation for the reader of a fix; nothing decides by them.
"""

from __future__ import annotations

__all__ = ("TITLES", "INSTEAD", "SINCE", "brought_by", "SECTIONS", "CONFIG", "SYSCTLS", "LIMITS", "MOUNTS")

#: Feature -> (name to show, what it is for).
TITLES: dict[str, tuple[str, str]] = {
    "perf_hardware": ("CPU counters", "cycles, instructions, branches (hardware:*)"),
    "perf_cache": ("cache counters", "L1, LLC and TLB loads and misses"),
    "breakpoint": ("breakpoints", "watchpoint:* on addresses"),
    "tracepoint_perf": ("tracepoints", "tracepoint:* with a program"),
    "syscall_tracepoints": ("system calls", "tracepoint:syscalls:*"),
    "raw_tracepoint": ("raw tracepoints", "rawtracepoint:*, untyped arguments"),
    "tp_btf": ("BTF tracepoints", "rawtracepoint:*, typed arguments"),
    "perf_tracepoint": ("perf tracepoints", "record samples at tracepoints"),
    "perf_software": ("software events", "profile:*, software:*, interval:*"),
    "perf_self": ("own process", "count this process's events without privileges"),
    "usdt_refcount": ("USDT markers", "usdt:* with semaphores"),
    "user_events": ("user events", "tracepoints that programs define"),
    "kprobe_multi": ("kprobe.multi", "many kernel functions with one link"),
    "kprobe_session": ("kprobe.session", "entry and return with one program"),
    "kprobe_perf": ("kprobe (perf)", "kprobe:*, kretprobe:* one by one"),
    "kprobe_tracefs": ("kprobe (tracefs)", "dynamic events on kernel functions"),
    "kprobe_args": ("kprobe arguments", "arguments by name from BTF"),
    "fprobe_events": ("fprobe events", "dynamic events through ftrace"),
    "fentry": ("fentry", "fentry:*, the cheapest way into a function"),
    "fexit": ("fexit", "fexit:*, return values with arguments"),
    "fsession": ("fsession", "fentry and fexit in one program"),
    "fmod_ret": ("fmod_ret", "change a function's result"),
    "uprobe_multi": ("uprobe.multi", "many user functions with one link"),
    "uprobe_multi_pid": ("uprobe.multi by PID", "many user functions of one process"),
    "uprobe_session": ("uprobe.session", "entry and return with one program"),
    "uprobe_perf": ("uprobe (perf)", "uprobe:*, uretprobe:* one by one"),
    "uprobe_tracefs": ("uprobe (tracefs)", "dynamic events on user functions"),
    "event_probes": ("event probes", "dynamic events on other events"),
    "tracefs": ("tracefs", "the file system of ftrace"),
    "instances": ("instances", "private buffers"),
    "function_tracer": ("function tracer", "log of kernel functions"),
    "function_graph": ("function_graph", "call graph of kernel functions with times"),
    "filter_functions": ("list of functions", "names of the functions that ftrace can hook"),
    "hist_triggers": ("hist triggers", "histograms in the kernel"),
    "synthetic_events": ("synthetic events", "latencies between events"),
    "snapshot": ("snapshot", "a second buffer to keep"),
    "stack_tracer": ("stack tracer", "deepest kernel stack"),
    "bpf": ("bpf(2)", "load programs at all"),
    "jit": ("JIT", "programs as machine code"),
    "btf_vmlinux": ("kernel BTF", "types of the kernel"),
    "btf_modules": ("module BTF", "types of modules"),
    "prog_run": ("test runs", "BEGIN and END programs"),
    "iter": ("iterators", "iter:* over tasks, files, maps"),
    "lsm": ("LSM programs", "programs on security hooks"),
    "bpf_stats": ("run-time statistics", "what programs cost"),
    "ringbuf": ("ring buffer", "events in order, one buffer"),
    "probe_read_space": ("probe_read_*", "kernel and user reads told apart"),
    "atomic_fetch": ("atomics", "fetch, exchange, compare-exchange"),
    "jmp32": ("32-bit jumps", "shorter programs"),
    "bounded_loops": ("loops", "loops that the verifier follows"),
    "insns_1m": ("1,000,000 instructions", "instead of 4,096"),
    "bpf_loop": ("bpf_loop", "long loops"),
    "for_each": ("for_each", "loops over maps"),
    "iter_num": ("open-coded loops", "bpf_iter_num_*"),
    "ktime_boot": ("boot clock", "nsecs that count suspend"),
    "percpu_alloc_nmi": ("maps that allocate", "memory-saving maps in any probe"),
    "cpu_v4": ("CPU version 4", "sign-extending loads and moves"),
    "btf_func": ("source lines", "verifier messages with the user's line"),
    "cgroup2": ("cgroup v2", "filters by cgroup"),
}

#: Feature -> what can serve instead: (feature that must be there or "", words for the user), best first.
_FUNCTIONS = (
    ("fentry", "fentry:FUNCTION"),
    ("kprobe_multi", "kprobe:FUNCTION"),
    ("kprobe_perf", "kprobe:FUNCTION"),
    ("function_tracer", "the function tracer"),
    ("tp_btf", "a tracepoint near the function (harken list 'tracepoint:*')"),
    ("raw_tracepoint", "a tracepoint near the function (harken list 'tracepoint:*')"),
    ("tracepoint_perf", "a tracepoint near the function (harken list 'tracepoint:*')"),
)
_USER = (("uprobe_multi", "uprobe:BINARY:FUNCTION"), ("uprobe_perf", "uprobe:BINARY:FUNCTION"), ("uprobe_tracefs", "uprobe events"))
_EVENTS = (
    ("tp_btf", "rawtracepoint:EVENT"),
    ("raw_tracepoint", "rawtracepoint:EVENT"),
    ("tracepoint_perf", "tracepoint:CATEGORY:EVENT"),
)
_COUNTERS = (("perf_software", "software:cpu-clock or profile:hz:99"), ("perf_self", "software events of one process"))
_MAPS = (("bpf", "maps in the program: @x = hist(...), @x[key] = count()"),)
INSTEAD: dict[str, tuple[tuple[str, str], ...]] = {
    **dict.fromkeys(
        (
            "kprobe_multi kprobe_session kprobe_perf kprobe_tracefs kprobe_args fprobe_events fentry fexit fsession fmod_ret "
            "function_tracer function_graph filter_functions"
        ).split(),
        _FUNCTIONS,
    ),
    **dict.fromkeys("uprobe_multi uprobe_session uprobe_perf uprobe_tracefs".split(), _USER),
    **dict.fromkeys("tracepoint_perf raw_tracepoint tp_btf perf_tracepoint syscall_tracepoints".split(), _EVENTS),
    **dict.fromkeys("perf_hardware perf_cache".split(), _COUNTERS),
    **dict.fromkeys("hist_triggers synthetic_events event_probes".split(), _MAPS),
    "lsm": (("tracepoint_perf", "tracepoint:syscalls:*, which see but cannot refuse"),),
    "user_events": (("usdt_refcount", "usdt:BINARY:MARKER"), ("uprobe_perf", "uprobe:BINARY:FUNCTION")),
    "usdt_refcount": (("uprobe_perf", "uprobe:BINARY:FUNCTION"),),
    "uprobe_multi_pid": (("uprobe_perf", "-p PID through perf events"), ("uprobe_tracefs", "-p PID through dynamic events")),
    "snapshot": (("instances", "an instance of its own"),),
    "stack_tracer": (("perf_software", "profile:hz:99 { @[kstack] = count(); }"),),
}

#: Feature -> the Linux that brought it.
SINCE: dict[str, str] = {
    "kprobe_multi": "5.18",
    "kprobe_session": "6.10",
    "kprobe_perf": "4.17",
    "kprobe_args": "6.4",
    "fprobe_events": "6.5",
    "fentry": "5.5",
    "fexit": "5.5",
    "fsession": "7.0",
    "fmod_ret": "5.7",
    "lsm": "5.7",
    "uprobe_multi": "6.6",
    "uprobe_multi_pid": "6.10",
    "uprobe_session": "6.13",
    "uprobe_perf": "4.17",
    "usdt_refcount": "4.20",
    "user_events": "6.4",
    "raw_tracepoint": "4.17",
    "tp_btf": "5.5",
    "iter": "5.8",
    "bpf_stats": "5.8",
    "ringbuf": "5.8",
    "probe_read_space": "5.5",
    "atomic_fetch": "5.12",
    "jmp32": "5.1",
    "bounded_loops": "5.3",
    "insns_1m": "5.2",
    "bpf_loop": "5.17",
    "for_each": "5.13",
    "iter_num": "6.4",
    "ktime_boot": "5.8",
    "percpu_alloc_nmi": "6.1",
    "cpu_v4": "6.6",
    "btf_func": "5.0",
    "btf_modules": "5.11",
    "prog_run": "5.10",
    "map:insn_array": "6.19",
    "map:arena": "6.9",
    "map:cgrp_storage": "6.2",
    "map:user_ringbuf": "6.1",
    "map:bloom_filter": "5.16",
    "map:task_storage": "5.11",
    "map:ringbuf": "5.8",
    "program:netfilter": "6.4",
    "program:syscall": "5.14",
    "program:sk_lookup": "5.9",
    "program:tracing": "5.5",
    "program:lsm": "5.7",
    "program:ext": "5.6",
    "program:struct_ops": "5.6",
}
#: The same where a machine got it later: arm64's fprobes came with those on function_graph (commit 4346ba160409), its trampolines into
#: kernel functions with direct calls of ftrace (commit 2aa6ac03516d), atomic operations that return something with 1902472b4fa9.
_SINCE_ON: dict[str, dict[str, str]] = {
    "aarch64": {
        **dict.fromkeys("kprobe_multi kprobe_session fprobe_events".split(), "6.14"),
        **dict.fromkeys("fentry fexit fmod_ret lsm".split(), "6.4"),
        "atomic_fetch": "5.18",
    },
}


def brought_by(name: str, machine: str) -> str:
    """The Linux that brought a feature to a machine, "" if the table does not say."""
    return _SINCE_ON.get(machine, {}).get(name) or SINCE.get(name, "")


#: (key, title, features in order)
SECTIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("hardware", "Hardware events", ("perf_hardware", "perf_cache", "breakpoint")),
    (
        "static",
        "Static probes",
        tuple(
            "tracepoint_perf syscall_tracepoints raw_tracepoint tp_btf perf_tracepoint perf_software perf_self usdt_refcount "
            "user_events".split()
        ),
    ),
    (
        "dynamic",
        "Dynamic probes",
        tuple(
            "kprobe_multi kprobe_session kprobe_perf kprobe_tracefs kprobe_args fprobe_events fentry fexit fsession fmod_ret "
            "uprobe_multi uprobe_multi_pid uprobe_session uprobe_perf uprobe_tracefs event_probes".split()
        ),
    ),
    (
        "tracers",
        "Tracers (ftrace)",
        tuple(
            "tracefs instances function_tracer function_graph filter_functions hist_triggers synthetic_events snapshot stack_tracer".split()
        ),
    ),
    (
        "bpf",
        "BPF",
        tuple(
            "bpf jit btf_vmlinux btf_modules prog_run iter lsm bpf_stats ringbuf probe_read_space atomic_fetch jmp32 bounded_loops "
            "insns_1m bpf_loop for_each iter_num ktime_boot percpu_alloc_nmi cpu_v4 btf_func cgroup2".split()
        ),
    ),
)

#: Options of the kernel's build that matter, with what each is for.
CONFIG: tuple[tuple[str, str], ...] = (
    ("CONFIG_TRACING", "tracefs"),
    ("CONFIG_FTRACE", "tracers"),
    ("CONFIG_FUNCTION_TRACER", "function tracer, fentry"),
    ("CONFIG_FUNCTION_GRAPH_TRACER", "function_graph"),
    ("CONFIG_DYNAMIC_FTRACE", "filters of the function tracer"),
    ("CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS", "fentry and fexit"),
    ("CONFIG_FTRACE_SYSCALLS", "tracepoint:syscalls:*"),
    ("CONFIG_STACK_TRACER", "stack tracer"),
    ("CONFIG_HIST_TRIGGERS", "histograms in tracefs"),
    ("CONFIG_SYNTH_EVENTS", "synthetic events"),
    ("CONFIG_TRACER_SNAPSHOT", "snapshots"),
    ("CONFIG_KPROBES", "kprobes"),
    ("CONFIG_KPROBE_EVENTS", "kprobes through perf and tracefs"),
    ("CONFIG_FPROBE", "kprobe.multi"),
    ("CONFIG_UPROBES", "uprobes"),
    ("CONFIG_UPROBE_EVENTS", "uprobes through perf and tracefs"),
    ("CONFIG_BPF_SYSCALL", "bpf(2)"),
    ("CONFIG_BPF_JIT", "machine code for programs"),
    ("CONFIG_BPF_EVENTS", "programs at probes"),
    ("CONFIG_BPF_LSM", "programs on security hooks"),
    ("CONFIG_CGROUP_BPF", "programs on cgroups"),
    ("CONFIG_DEBUG_INFO_BTF", "types of the kernel"),
    ("CONFIG_DEBUG_INFO_BTF_MODULES", "types of modules"),
    ("CONFIG_PERF_EVENTS", "perf_event_open(2)"),
    ("CONFIG_HW_PERF_EVENTS", "CPU counters (arm64)"),
    ("CONFIG_KALLSYMS", "names of kernel addresses"),
    ("CONFIG_KALLSYMS_ALL", "names of kernel variables"),
    ("CONFIG_IKHEADERS", "kernel headers in the kernel"),
    ("CONFIG_MODULES", "loadable modules"),
)

#: sysctl -> (values that restrict nothing, what the others do, the command's value or "" for none to advise).
SYSCTLS: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    (
        "kernel.perf_event_paranoid",
        ("-1",),
        "without CAP_PERFMON: 1 own processes, 2 in user mode only, above that nothing",
        "-1",
    ),
    ("kernel.unprivileged_bpf_disabled", ("0",), "bpf(2) needs CAP_BPF (2: until an administrator changes it, 1: until the next boot)", ""),
    ("kernel.kptr_restrict", ("0",), "kernel addresses are hidden (1: without CAP_SYSLOG, 2: from all)", "0"),
    ("kernel.bpf_stats_enabled", ("1",), "programs' run time is not counted (bpftop and harken switch it on while they need it)", ""),
    ("kernel.ftrace_enabled", ("1",), "the function tracer is switched off, and with it fentry and kprobe.multi", "1"),
    ("net.core.bpf_jit_enable", ("1", "2"), "programs are interpreted", "1"),
    ("net.core.bpf_jit_harden", ("0",), "constants in programs are blinded: slower (1: of unprivileged users, 2: of all)", ""),
    ("kernel.perf_event_max_sample_rate", (), "samples per second and CPU at most", ""),
    ("kernel.perf_event_mlock_kb", (), "kB of ring buffer per user without CAP_IPC_LOCK", ""),
    ("kernel.perf_event_max_stack", (), "frames of a stack trace at most", ""),
    ("kernel.yama.ptrace_scope", ("0",), "other processes of the same user may not be looked into (1: but for children, 2: root only)", ""),
)

#: (limit of /proc/self/limits, name of ulimit, what it bounds)
LIMITS: tuple[tuple[str, str, str], ...] = (
    ("Max locked memory", "ulimit -l", "perf ring buffers; maps and programs before Linux 5.11"),
    ("Max open files", "ulimit -n", "one descriptor per map, program, probe and CPU"),
)

#: (types, usual place, what it is for)
MOUNTS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("tracefs",), "/sys/kernel/tracing", "events, tracers, dynamic probes"),
    (("debugfs",), "/sys/kernel/debug", "the old way to tracefs; the kprobe blacklist"),
    (("bpf",), "/sys/fs/bpf", "pinned maps and programs"),
    (("securityfs",), "/sys/kernel/security", "lockdown and security modules"),
    (("cgroup2",), "/sys/fs/cgroup", "filters by cgroup"),
)
