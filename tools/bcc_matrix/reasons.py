"""Why a tool does not work: looked into one by one, for the tools where the last line of an error message does not say it."""

from __future__ import annotations

__all__ = ("ELSEWHERE", "NOWHERE")

#: Tools that work on no kernel that the matrix runs.
NOWHERE: dict[str, str] = {
    "criticalstat": "it needs the tracepoints preemptirq:* (CONFIG_PREEMPTIRQ_TRACEPOINTS), which no kernel of Debian has",
    "inject": "it needs bpf_override_return (CONFIG_FUNCTION_ERROR_INJECTION, CONFIG_BPF_KPROBE_OVERRIDE), which no kernel of Debian has",
    "kvmexit": "it takes Intel processors only, which emulated guests are not; natively it attaches, but this machine's KVM, itself inside "
    "a virtual machine, emulates every instruction of a guest, so that none ever exits",
    "llcstat": "it needs hardware counters of cache references and misses, which virtual machines do not have",
    "ppchcalls": "hypervisor calls are a thing of PowerPC",
    "readahead": "it waits for the return of __page_cache_alloc, which has been inlined since Linux 5.16; on 5.10 it attaches, but "
    "the guest died, twice, when pages were read ahead (why is not known yet)",
    "zfsdist": "it needs the functions of the ZFS module, which Debian has only as source",
    "zfsslower": "it needs the functions of the ZFS module, which Debian has only as source",
}

#: (tool, kernel) where the tool works on another kernel.
ELSEWHERE: dict[tuple[str, str], str] = {
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
    **dict.fromkeys(
        (("slabratetop", "6.12"), ("slabratetop", "native")), "kmem_cache_alloc has been called kmem_cache_alloc_noprof since Linux 6.10"
    ),
    ("filelife", "6.12"): "the tool takes renamed arguments (mnt_idmap, Linux 6.3) for those of before 5.12 and looks at the wrong ones",
    ("bindsnoop", "6.12"): "the tool finds a socket's protocol by the distance of its neighbours in struct sock, which changed",
    ("tcpaccept", "6.12"): "the tool finds a socket's protocol by the distance of its neighbours in struct sock, which changed",
    **dict.fromkeys(
        (("cpuunclaimed", "6.12"), ("cpuunclaimed", "6.1"), ("cpuunclaimed", "5.10")),
        "its samples must be taken within 4 ms of each other, which an emulated processor cannot do; it says so",
    ),
}
