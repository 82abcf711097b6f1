"""Names of sections of BPF objects, as libbpf reads them: what a program is and where it goes.

``tracepoint/sched/sched_switch`` holds tracepoint programs for that event, ``fentry/vfs_read`` tracing programs bound to that function.
Facts: ``libbpf``'s documentation "Program Types and ELF Sections" (Documentation/bpf/libbpf/program_types.rst).

Example:
    >>> kind = parse("fentry.s/vfs_read")
    >>> kind.probe, kind.attach_function, kind.sleepable
    ('fentry:vfs_read', 'vfs_read', True)
    >>> name(kind.type, kind.expected_attach_type, "fentry:vfs_read", "vfs_read", True)
    'fentry.s/vfs_read'
    >>> parse("tp/syscalls/sys_enter_openat").probe
    'tracepoint:syscalls:sys_enter_openat'
"""

from __future__ import annotations

from ..abi import bpf as abi
from ..base.record import Record

__all__ = ("ProgramKind", "name", "parse")


class ProgramKind(Record):
    """What a section's name says; ``probe`` is in harken's words, "" if no place is named."""

    type: int
    expected_attach_type: int = 0
    probe: str = ""
    attach_function: str = ""
    sleepable: bool = False


#: beginning of a section's name -> (program type, expected attach type, kind of probe).  Longer names first where one begins another.
#: The first of several with the same meaning is the one that is written.
_KINDS: tuple[tuple[str, int, int, str], ...] = (
    ("kprobe.multi", abi.BPF_PROG_TYPE_KPROBE, abi.BPF_TRACE_KPROBE_MULTI, "kprobe"),
    ("kretprobe.multi", abi.BPF_PROG_TYPE_KPROBE, abi.BPF_TRACE_KPROBE_MULTI, "kretprobe"),
    ("uprobe.multi", abi.BPF_PROG_TYPE_KPROBE, abi.BPF_TRACE_UPROBE_MULTI, "uprobe"),
    ("uretprobe.multi", abi.BPF_PROG_TYPE_KPROBE, abi.BPF_TRACE_UPROBE_MULTI, "uretprobe"),
    ("kprobe", abi.BPF_PROG_TYPE_KPROBE, 0, "kprobe"),
    ("kretprobe", abi.BPF_PROG_TYPE_KPROBE, 0, "kretprobe"),
    ("uprobe", abi.BPF_PROG_TYPE_KPROBE, 0, "uprobe"),
    ("uretprobe", abi.BPF_PROG_TYPE_KPROBE, 0, "uretprobe"),
    ("usdt", abi.BPF_PROG_TYPE_KPROBE, 0, "usdt"),
    ("ksyscall", abi.BPF_PROG_TYPE_KPROBE, 0, "ksyscall"),
    ("kretsyscall", abi.BPF_PROG_TYPE_KPROBE, 0, "kretsyscall"),
    ("tracepoint", abi.BPF_PROG_TYPE_TRACEPOINT, 0, "tracepoint"),
    ("tp", abi.BPF_PROG_TYPE_TRACEPOINT, 0, "tracepoint"),
    ("raw_tracepoint", abi.BPF_PROG_TYPE_RAW_TRACEPOINT, 0, "rawtracepoint"),
    ("raw_tp", abi.BPF_PROG_TYPE_RAW_TRACEPOINT, 0, "rawtracepoint"),
    ("raw_tracepoint.w", abi.BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE, 0, "rawtracepoint"),
    ("raw_tp.w", abi.BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE, 0, "rawtracepoint"),
    ("tp_btf", abi.BPF_PROG_TYPE_TRACING, abi.BPF_TRACE_RAW_TP, "rawtracepoint"),
    ("fentry", abi.BPF_PROG_TYPE_TRACING, abi.BPF_TRACE_FENTRY, "fentry"),
    ("fexit", abi.BPF_PROG_TYPE_TRACING, abi.BPF_TRACE_FEXIT, "fexit"),
    ("fmod_ret", abi.BPF_PROG_TYPE_TRACING, abi.BPF_MODIFY_RETURN, "fmod_ret"),
    ("iter", abi.BPF_PROG_TYPE_TRACING, abi.BPF_TRACE_ITER, "iter"),
    ("lsm_cgroup", abi.BPF_PROG_TYPE_LSM, abi.BPF_LSM_CGROUP, "lsm_cgroup"),
    ("lsm", abi.BPF_PROG_TYPE_LSM, abi.BPF_LSM_MAC, "lsm"),
    ("freplace", abi.BPF_PROG_TYPE_EXT, 0, "freplace"),
    ("perf_event", abi.BPF_PROG_TYPE_PERF_EVENT, 0, "perf_event"),
    ("syscall", abi.BPF_PROG_TYPE_SYSCALL, 0, "syscall"),
    ("socket", abi.BPF_PROG_TYPE_SOCKET_FILTER, 0, "socket"),
    ("xdp", abi.BPF_PROG_TYPE_XDP, 0, "xdp"),
    ("tc", abi.BPF_PROG_TYPE_SCHED_CLS, 0, "tc"),
    ("classifier", abi.BPF_PROG_TYPE_SCHED_CLS, 0, "tc"),
    ("action", abi.BPF_PROG_TYPE_SCHED_ACT, 0, "tc_action"),
    ("cgroup_skb/ingress", abi.BPF_PROG_TYPE_CGROUP_SKB, abi.BPF_CGROUP_INET_INGRESS, ""),
    ("cgroup_skb/egress", abi.BPF_PROG_TYPE_CGROUP_SKB, abi.BPF_CGROUP_INET_EGRESS, ""),
    ("cgroup/skb", abi.BPF_PROG_TYPE_CGROUP_SKB, 0, ""),
    ("sockops", abi.BPF_PROG_TYPE_SOCK_OPS, abi.BPF_CGROUP_SOCK_OPS, ""),
    ("sk_msg", abi.BPF_PROG_TYPE_SK_MSG, abi.BPF_SK_MSG_VERDICT, ""),
    ("sk_skb/stream_parser", abi.BPF_PROG_TYPE_SK_SKB, abi.BPF_SK_SKB_STREAM_PARSER, ""),
    ("sk_skb/stream_verdict", abi.BPF_PROG_TYPE_SK_SKB, abi.BPF_SK_SKB_STREAM_VERDICT, ""),
    ("sk_lookup", abi.BPF_PROG_TYPE_SK_LOOKUP, abi.BPF_SK_LOOKUP, ""),
)

#: kinds whose target is the kernel function that the program is bound to at load
_BOUND = frozenset(("fentry", "fexit", "fmod_ret", "lsm", "lsm_cgroup", "iter", "freplace", "tp_btf"))
#: kinds whose target has two parts, with the separators of a section's name and of a probe
_SLASHED = frozenset(("tracepoint", "tp"))


def parse(section: str) -> ProgramKind | None:
    """What a program's section says; None for a name that is none of a program."""
    found = None
    sleepable = False
    for start, type, attach, kind in _KINDS:
        for text, sleeps in ((start, False), (start + ".s", True)):
            if (section == text or section.startswith(text + "/")) and (found is None or len(text) > len(found[0])):
                found, sleepable = (text, type, attach, kind, start), sleeps
    if found is None:
        return None
    text, type, attach, kind, start = found
    target = section[len(text) + 1 :]
    if type == abi.BPF_PROG_TYPE_SYSCALL:
        sleepable = True
    probe = ""
    if start in _SLASHED:
        target = target.replace("/", ":", 1)
    if kind and (target or kind.endswith("retprobe")):
        # that it is for returns is said even if no place is
        probe = f"{kind}:{target}"
    return ProgramKind(type, attach, probe, target if start in _BOUND else "", sleepable)


def name(type: int, expected_attach_type: int, probe: str = "", attach_function: str = "", sleepable: bool = False) -> str:
    """The section for a program; "" if libbpf has no name for such programs.

    Args:
        probe: "kind:target" of the (first) place that it is attached to, or "".
        attach_function: what it is bound to at load, or "".
    """
    kind, _, target = probe.partition(":")
    same = [row for row in _KINDS if row[1] == type and row[2] == expected_attach_type]
    if not same:
        same = [row for row in _KINDS if row[1] == type]
    if not same:
        return ""
    row = next((row for row in same if row[3] == kind), same[0])
    start = row[0]
    if start in _BOUND:
        target = attach_function
    elif row[3] != kind or start == "syscall":
        target = ""
    if start in _SLASHED:
        target = target.replace(":", "/", 1)
    if sleepable and start != "syscall":
        start += ".s"
    return f"{start}/{target}" if target else start
