"""What to trace instead of a kernel function that this kernel cannot probe.

A table of well-known internal functions and two general rules: the implementation of a system call has the system call's tracepoints, and a
function with a tracepoint of its own name has that.  Only events that this kernel has are suggested, and only as a hint: the meaning is
near, not the same.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .model import Probe

__all__ = ("instead", "syscall_of")

#: Prefixes of functions that implement a system call.  Those with wrappers take one pointer to the caller's registers.
_IMPLEMENTATIONS = ("__x64_sys_", "__arm64_sys_", "__se_sys_", "__do_sys_", "__riscv_sys_", "__s390x_sys_", "ksys_", "sys_", "SyS_")

#: Those of the prefixes above whose functions run exactly once per native system call.
_ENTRIES = ("__x64_sys_", "__arm64_sys_")

#: internal function -> tracepoints, the closest first; a leading "syscalls:" event is named without enter or exit
_TABLE = {
    "do_sys_open": "syscalls:openat syscalls:open",
    "do_sys_openat2": "syscalls:openat syscalls:openat2",
    "do_filp_open": "syscalls:openat syscalls:openat2",
    "do_file_open": "syscalls:openat syscalls:openat2",
    "vfs_open": "syscalls:openat syscalls:openat2",
    "path_openat": "syscalls:openat syscalls:openat2",
    "vfs_read": "syscalls:read syscalls:pread64",
    "vfs_readv": "syscalls:readv",
    "vfs_write": "syscalls:write syscalls:pwrite64",
    "vfs_writev": "syscalls:writev",
    "vfs_fsync": "syscalls:fsync",
    "vfs_fsync_range": "syscalls:fsync",
    "vfs_unlink": "syscalls:unlink syscalls:unlinkat",
    "do_unlinkat": "syscalls:unlink syscalls:unlinkat",
    "vfs_rename": "syscalls:rename syscalls:renameat2",
    "do_renameat2": "syscalls:rename syscalls:renameat2",
    "vfs_mkdir": "syscalls:mkdir syscalls:mkdirat",
    "do_mkdirat": "syscalls:mkdir syscalls:mkdirat",
    "vfs_rmdir": "syscalls:rmdir",
    "vfs_create": "syscalls:openat syscalls:mknodat",
    "vfs_link": "syscalls:link syscalls:linkat",
    "vfs_symlink": "syscalls:symlink syscalls:symlinkat",
    "vfs_statx": "syscalls:statx syscalls:newfstatat",
    "vfs_fstat": "syscalls:newfstat",
    "vfs_fstatat": "syscalls:newfstatat",
    "do_faccessat": "syscalls:faccessat syscalls:access",
    "do_execve": "sched:sched_process_exec syscalls:execve",
    "do_execveat_common": "sched:sched_process_exec syscalls:execve",
    "bprm_execve": "sched:sched_process_exec syscalls:execve",
    "do_exit": "sched:sched_process_exit",
    "do_group_exit": "sched:sched_process_exit",
    "kernel_clone": "sched:sched_process_fork syscalls:clone",
    "_do_fork": "sched:sched_process_fork syscalls:clone",
    "copy_process": "sched:sched_process_fork",
    "wake_up_new_task": "sched:sched_wakeup_new",
    "try_to_wake_up": "sched:sched_waking sched:sched_wakeup",
    "ttwu_do_wakeup": "sched:sched_wakeup",
    "schedule": "sched:sched_switch",
    "__schedule": "sched:sched_switch",
    "finish_task_switch": "sched:sched_switch",
    "finish_task_switch.isra.0": "sched:sched_switch",
    "do_send_sig_info": "signal:signal_generate",
    "__send_signal": "signal:signal_generate",
    "send_signal_locked": "signal:signal_generate",
    "get_signal": "signal:signal_deliver",
    "handle_mm_fault": "exceptions:page_fault_user",
    "do_user_addr_fault": "exceptions:page_fault_user",
    "exc_page_fault": "exceptions:page_fault_user exceptions:page_fault_kernel",
    "out_of_memory": "oom:mark_victim",
    "oom_kill_process": "oom:mark_victim",
    "__alloc_pages": "kmem:mm_page_alloc",
    "__alloc_pages_nodemask": "kmem:mm_page_alloc",
    "__alloc_frozen_pages_noprof": "kmem:mm_page_alloc",
    "__kmalloc": "kmem:kmalloc",
    "__kmalloc_noprof": "kmem:kmalloc",
    "kfree": "kmem:kfree",
    "kmem_cache_alloc": "kmem:kmem_cache_alloc",
    "kmem_cache_alloc_noprof": "kmem:kmem_cache_alloc",
    "kmem_cache_free": "kmem:kmem_cache_free",
    "submit_bio": "block:block_bio_queue",
    "submit_bio_noacct": "block:block_bio_queue",
    "blk_mq_start_request": "block:block_rq_issue",
    "blk_account_io_start": "block:block_io_start block:block_rq_issue",
    "blk_account_io_done": "block:block_io_done block:block_rq_complete",
    "blk_mq_end_request": "block:block_rq_complete",
    "tcp_v4_connect": "sock:inet_sock_set_state syscalls:connect",
    "tcp_v6_connect": "sock:inet_sock_set_state syscalls:connect",
    "tcp_set_state": "sock:inet_sock_set_state",
    "inet_csk_accept": "sock:inet_sock_set_state syscalls:accept4",
    "inet_listen": "sock:inet_sock_set_state syscalls:listen",
    "tcp_retransmit_skb": "tcp:tcp_retransmit_skb",
    "__tcp_retransmit_skb": "tcp:tcp_retransmit_skb",
    "tcp_drop": "skb:kfree_skb",
    "tcp_sendmsg": "sock:sock_send_length syscalls:sendto",
    "tcp_recvmsg": "sock:sock_recv_length syscalls:recvfrom",
    "udp_sendmsg": "sock:sock_send_length syscalls:sendto",
    "udp_recvmsg": "sock:sock_recv_length syscalls:recvfrom",
    "kfree_skb": "skb:kfree_skb",
    "kfree_skb_reason": "skb:kfree_skb",
    "sk_skb_reason_drop": "skb:kfree_skb",
    "consume_skb": "skb:consume_skb",
    "__netif_receive_skb": "net:netif_receive_skb",
    "netif_receive_skb": "net:netif_receive_skb",
    "__dev_queue_xmit": "net:net_dev_queue",
    "dev_queue_xmit": "net:net_dev_queue",
    "dev_hard_start_xmit": "net:net_dev_start_xmit",
    "do_softirq": "irq:softirq_entry",
    "__do_softirq": "irq:softirq_entry",
    "handle_irq_event_percpu": "irq:irq_handler_entry",
    "__handle_irq_event_percpu": "irq:irq_handler_entry",
    "run_timer_softirq": "timer:timer_expire_entry",
    "process_one_work": "workqueue:workqueue_execute_start",
    "cap_capable": "capability:cap_capable",
    "do_nanosleep": "syscalls:nanosleep syscalls:clock_nanosleep",
    "do_futex": "syscalls:futex",
    "ksys_mmap_pgoff": "syscalls:mmap",
    "vm_mmap_pgoff": "syscalls:mmap",
    "do_mmap": "syscalls:mmap",
    "do_mount": "syscalls:mount",
    "path_mount": "syscalls:mount",
    "load_module": "module:module_load",
    "do_init_module": "module:module_load",
}


def syscall_of(function: str, entry: bool = False) -> str:
    """The system call that a kernel function implements, or "".

    Args:
        function: its name.
        entry: only functions that run exactly once per native call, with nothing between.

    >>> syscall_of("__x64_sys_openat"), syscall_of("ksys_read"), syscall_of("vfs_read")
    ('openat', 'read', '')
    >>> syscall_of("ksys_read", entry=True)
    ''
    """
    for prefix in _ENTRIES if entry else _IMPLEMENTATIONS:
        if function.startswith(prefix):
            return function[len(prefix) :]
    return ""


def instead(probe: Probe, catalogue: Any, limit: int = 2) -> list[str]:
    """Probes of this kernel that come near to a kernel function's, best first; empty if none is known."""
    if probe.kind not in ("kprobe", "kretprobe", "fentry", "fexit") or len(probe.name) < 2:
        return []
    function: str = probe.name[1]
    events = catalogue.tracepoints()
    known = set(events)
    when = "exit" if probe.kind in ("kretprobe", "fexit") else "enter"
    found = []
    for name in _TABLE.get(function, "").split():
        category, event = name.split(":")
        found.append((category, f"sys_{when}_{event}" if category == "syscalls" else event))
    syscall = syscall_of(function)
    if syscall:
        found += [("syscalls", f"sys_{when}_{name}") for name in (syscall, f"new{syscall}", f"{syscall}64")]
    if not found:
        plain = function.partition(".")[0]
        names = {plain, plain.lstrip("_"), plain.removeprefix("do_"), plain.removeprefix("__do_")} - {""}
        found = [(category, event) for category, event in events if event in names]
    return [f"tracepoint:{category}:{event}" for category, event in dict.fromkeys(found) if (category, event) in known][:limit]
