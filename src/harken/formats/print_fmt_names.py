"""Enumerators (and one variable) that kernels leave as names in their print formats, with the values that they have had in every kernel
since.

A kernel resolves the names that its authors marked (``TRACE_DEFINE_ENUM``) and leaves the others.  Where the kernel's BTF is at hand it
knows better (``Env.constant``); these are the values for recordings that come without, and only names of user space's ABI or of
enumerations that never changed are here.
"""

from __future__ import annotations

__all__ = ("ENUMERATORS",)

ENUMERATORS: dict[str, int] = {}


def _add(names: str, start: int = 0) -> None:
    for value, name in enumerate(names.split(), start):
        ENUMERATORS[name] = value


# include/net/tcp_states.h
_add(
    "TCP_ESTABLISHED TCP_SYN_SENT TCP_SYN_RECV TCP_FIN_WAIT1 TCP_FIN_WAIT2 TCP_TIME_WAIT TCP_CLOSE TCP_CLOSE_WAIT TCP_LAST_ACK TCP_LISTEN "
    "TCP_CLOSING TCP_NEW_SYN_RECV",
    1,
)
# include/uapi/linux/ioprio.h
_add("IOPRIO_CLASS_NONE IOPRIO_CLASS_RT IOPRIO_CLASS_BE IOPRIO_CLASS_IDLE")
ENUMERATORS["IOPRIO_CLASS_INVALID"] = 7
# include/linux/interrupt.h
_add(
    "HI_SOFTIRQ TIMER_SOFTIRQ NET_TX_SOFTIRQ NET_RX_SOFTIRQ BLOCK_SOFTIRQ IRQ_POLL_SOFTIRQ "
    "TASKLET_SOFTIRQ SCHED_SOFTIRQ HRTIMER_SOFTIRQ RCU_SOFTIRQ"
)
# include/linux/hrtimer.h
_add("HRTIMER_NORESTART HRTIMER_RESTART")
_add("HRTIMER_MODE_ABS HRTIMER_MODE_REL HRTIMER_MODE_PINNED", 0)
ENUMERATORS |= {
    "HRTIMER_MODE_ABS_PINNED": 2,
    "HRTIMER_MODE_REL_PINNED": 3,
    "HRTIMER_MODE_SOFT": 4,
    "HRTIMER_MODE_ABS_SOFT": 4,
    "HRTIMER_MODE_REL_SOFT": 5,
    "HRTIMER_MODE_ABS_PINNED_SOFT": 6,
    "HRTIMER_MODE_REL_PINNED_SOFT": 7,
    "HRTIMER_MODE_HARD": 8,
    "HRTIMER_MODE_ABS_HARD": 8,
    "HRTIMER_MODE_REL_HARD": 9,
    "HRTIMER_MODE_ABS_PINNED_HARD": 10,
    "HRTIMER_MODE_REL_PINNED_HARD": 11,
}
# include/linux/pm_qos.h
_add("PM_QOS_ADD_REQ PM_QOS_UPDATE_REQ PM_QOS_REMOVE_REQ")
# fs/btrfs/delayed-ref.h
_add("BTRFS_ADD_DELAYED_REF BTRFS_DROP_DELAYED_REF BTRFS_ADD_DELAYED_EXTENT BTRFS_UPDATE_DELAYED_HEAD", 1)
# arch/x86/mm/kaslr.c: where struct page begins unless the kernel moved it (CONFIG_RANDOMIZE_MEMORY)
ENUMERATORS["vmemmap_base"] = 0xFFFFEA0000000000
# include/linux/mm_types.h, enum vm_fault_reason: bits that have kept their places since Linux 5.1
ENUMERATORS |= {
    "VM_FAULT_OOM": 0x1,
    "VM_FAULT_SIGBUS": 0x2,
    "VM_FAULT_MAJOR": 0x4,
    "VM_FAULT_HWPOISON": 0x10,
    "VM_FAULT_HWPOISON_LARGE": 0x20,
    "VM_FAULT_SIGSEGV": 0x40,
    "VM_FAULT_NOPAGE": 0x100,
    "VM_FAULT_LOCKED": 0x200,
    "VM_FAULT_RETRY": 0x400,
    "VM_FAULT_FALLBACK": 0x800,
    "VM_FAULT_DONE_COW": 0x1000,
    "VM_FAULT_NEEDDSYNC": 0x2000,
    "VM_FAULT_COMPLETED": 0x4000,
}
