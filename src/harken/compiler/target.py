"""Target: the kernel that a program is legalised for, as plain data (so that one can compile for another machine's kernel)."""

from __future__ import annotations

from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

__all__ = ("Target", "EVERYTHING")


class Target(Record):
    """What the kernel offers to a program.

    ``features`` holds names that ``kernel.features`` can probe:

    ==================  ======================================================================
    ``ringbuf``         BPF_MAP_TYPE_RINGBUF (Linux 5.8); else the perf buffer is used
    ``probe_read_space``  bpf_probe_read_kernel/_user (5.5); else bpf_probe_read
    ``atomic_fetch``    BPF_FETCH, XCHG, CMPXCHG (5.12)
    ``jmp32``           32-bit compare and jump (5.1)
    ``bounded_loops``   back edges (5.3)
    ``insns_1m``        1,000,000 instructions (5.2); else 4,096
    ``bpf_loop``        helper bpf_loop (5.17)
    ``for_each``        helper bpf_for_each_map_elem (5.13)
    ``iter_num``        kfuncs bpf_iter_num_* (6.4)
    ``ktime_boot``      helper bpf_ktime_get_boot_ns (5.8)
    ``percpu_alloc_nmi``  non-preallocated maps in tracing programs (6.1)
    ``cpu_v4``          sign-extending loads and moves, 32-bit jumps, sdiv (6.6)
    ``btf_func``        func_info and line_info accepted (5.0)
    ==================  ======================================================================
    """

    machine: str
    features: Container[str]
    max_stack: int = 512

    def has(self, feature: str) -> bool:
        return feature in self.features


EVERYTHING = frozenset(
    "ringbuf probe_read_space atomic_fetch jmp32 bounded_loops insns_1m bpf_loop for_each iter_num ktime_boot "
    "percpu_alloc_nmi cpu_v4 btf_func".split()
)
