"""Why a tool does not work: looked into one by one, for the tools where the last line of an error message does not say it."""

from __future__ import annotations

__all__ = ("ELSEWHERE", "NOWHERE", "VARIANTS")

#: Tools that work on no kernel that the matrix runs.
NOWHERE: dict[str, str] = {
    "inject": "it needs bpf_override_return (CONFIG_FUNCTION_ERROR_INJECTION, CONFIG_BPF_KPROBE_OVERRIDE), which no kernel of Debian has",
    "kvmexit": "it takes Intel processors only, which emulated guests are not, and where it finds raw tracepoints of modules it takes the "
    "first argument of kvm_exit for the exit's reason, which has been the virtual processor since Linux 5.16; natively it attaches, but "
    "KVM is one in software there (PVM), which emulates guests that are not made for it instruction by instruction, without exits",
}

#: (tool, kernel) where the tool works on another kernel.
ELSEWHERE: dict[tuple[str, str], str] = {
    **dict.fromkeys(
        (("criticalstat", "native"), ("criticalstat", "6.12")),
        "it needs the tracepoints preemptirq:* (CONFIG_PREEMPTIRQ_TRACEPOINTS), which no kernel of Debian has, the real-time ones included",
    ),
    **dict.fromkeys(
        (("llcstat", "native"), ("llcstat", "6.12")),
        "it needs hardware counters of cache references and misses, which this machine does not offer and emulated ones do not have",
    ),
    **dict.fromkeys((("ppchcalls", "native"), ("ppchcalls", "6.12")), "hypervisor calls are a thing of PowerPC"),
    **dict.fromkeys(
        (("zfsdist", "native"), ("zfsdist", "6.12"), ("zfsslower", "native"), ("zfsslower", "6.12")),
        "it needs the functions of the ZFS module, which Debian has only as source",
    ),
    **dict.fromkeys(
        (("compactsnoop", "native"), ("compactsnoop", "6.1"), ("compactsnoop", "6.12")),
        "it reads a fifth argument of the tracepoint mm_compaction_begin, which has had four since Linux 5.18, so the kernel refuses its "
        "program whoever loads it",
    ),
    **dict.fromkeys(
        (("readahead", "native"), ("readahead", "6.1"), ("readahead", "6.12")),
        "it waits for the return of __page_cache_alloc, which has been inlined since Linux 5.16",
    ),
    **dict.fromkeys(
        (("btrfsdist", "native"), ("btrfsslower", "native"), ("ext4dist", "native"), ("ext4slower", "native")),
        "it looks for the file system's table of operations in /proc/kallsyms, which has no variables there (CONFIG_KALLSYMS_ALL)",
    ),
    ("drsnoop", "native"): "it looks for the variable vm_zone_stat in /proc/kallsyms, which has no variables there (CONFIG_KALLSYMS_ALL)",
    ("mdflush", "native"): "the driver of md arrays is not in this kernel",
    **dict.fromkeys((("nfsdist", "native"), ("nfsslower", "native")), "NFS is not in this kernel"),
    **dict.fromkeys(
        (("biolatency", "6.1"), ("biosnoop", "6.1"), ("biotop", "6.1")),
        "blk_account_io_start and blk_account_io_done are inlined there, and the tracepoints block_io_start and block_io_done came in 6.5",
    ),
    ("tcptop", "6.12"): "tcp_sendpage was removed in Linux 6.5",
    ("filelife", "6.12"): "the tool takes renamed arguments (mnt_idmap, Linux 6.3) for those of before 5.12 and looks at the wrong ones",
    ("bindsnoop", "6.12"): "the tool finds a socket's protocol by the distance of its neighbours in struct sock, which changed",
    ("tcpaccept", "6.12"): "the tool finds a socket's protocol by the distance of its neighbours in struct sock, which changed",
    **dict.fromkeys(
        (("cpuunclaimed", "6.12"), ("cpuunclaimed", "6.1"), ("cpuunclaimed", "5.10")),
        "its samples must be taken within 4 ms of each other, which an emulated processor cannot do; it says so",
    ),
}

_NO_MARKERS = "the C library of Debian is built without static markers"

#: command -> why it showed nothing anywhere, where the tool works with other arguments.
VARIANTS: dict[str, str] = {
    "argdist -C 'u:c:pthread_start():u64:arg2' -p '{pid}'": _NO_MARKERS,
    "stackcount -p '{pid}' u:c:pthread_create": _NO_MARKERS,
    "uthreads -l none '{pid}'": _NO_MARKERS,
    "deadlock '{pid}'": "the tool looks for mutexes in libpthread, which is part of the C library since glibc 2.34; with --binary it works",
    "klockstat -c pipe_": "with kfuncs the tool skips one frame too many: it takes the caller's caller (vfs_write) for the caller",
    "ppchcalls -x": "the tool asks whether a number without a sign is negative",
    **dict.fromkeys(
        (
            "javathreads '{java}'",
            "nodegc '{node}'",
            "perlcalls '{perl}'",
            "perlflow '{perl}'",
            "tclcalls '{tclsh}'",
            "tclflow '{tclsh}'",
            "tclobjnew '{tclsh}'",
        ),
        "Debian builds it without these markers (with a stand-in the tool works)",
    ),
}
