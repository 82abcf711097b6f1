"""What compiling a C program gives: its tables, its functions and the code of all functions, not yet bound to probes.

Which mechanism a function runs under is decided when it is attached (``b.attach_kprobe(...)``), so the code is kept as IR, in which an
argument is "argument n" and not yet a register; ``compile.program`` makes one loadable program of it.
"""

from __future__ import annotations

from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...base.ctype import CType
    from ...base.diagnostics import Source, Span
    from ...compiler.ir import Module

__all__ = ("CTable", "CFunction", "CUnit")


class CTable(Record):
    """A map of the program.

    Attributes:
        name: as in the program.
        type: BPF_MAP_TYPE_*.
        key, value: C types; None where the map has none (perf_output, ringbuf, queue's key).
        max_entries: 0 means one per CPU (perf event arrays) .
        flags: BPF_F_*.
        event: the type of what is submitted through a perf or ring buffer, where one place in the program does; else None.
        inner: name of the table that is the template of a map of maps' inner maps, or "".
        kind: BCC's name of the type: "hash", "array", "percpu_hash", "percpu_array", "lru_hash", "lru_percpu_hash", "lpm_trie",
            "prog", "perf_output", "perf_array", "ringbuf", "stacktrace", "cgroup_array", "devmap", "cpumap", "xskmap",
            "array_of_maps", "hash_of_maps", "queue", "stack", "sockmap", "sockhash", "sk_storage", "inode_storage",
            "task_storage", "cgroup_storage", "histogram".
        pinned: path under bpffs to open or create, or "".
        scope: "" (this program's), "public", "shared", "extern".
    """

    name: str
    type: int
    key: CType | None
    value: CType | None
    max_entries: int
    flags: int = 0
    event: CType | None = None
    inner: str = ""
    kind: str = "hash"
    pinned: str = ""
    scope: str = ""
    span: Span | None = None

    @property
    def key_size(self) -> int:
        return self.key.size if self.key is not None else 0

    @property
    def value_size(self) -> int:
        return self.value.size if self.value is not None else 0


class CFunction(Record):
    """A function that can become a program.

    Attributes:
        name: as in the program.
        kind: what its name or macro says it is for: "kprobe", "kretprobe", "tracepoint", "raw_tracepoint", "kfunc", "kretfunc",
            "fmod_ret", "lsm", "syscall" (a ``syscall__`` function: arguments through the inner registers), "iter", or "".
        target: what it attaches to: "sched:sched_switch", "vfs_read", "module:function", "" if nothing is said.
        uses: what the planner must know: "registers" (reads registers beyond the arguments), "retval", "stack", "usdt", ...
    """

    name: str
    kind: str = ""
    target: str = ""
    uses: frozenset[str] = frozenset()
    span: Span | None = None


class CUnit(Record):
    """A compiled program; see ``compile.program`` for what is made of it."""

    name: str
    source: Source
    tables: tuple[CTable, ...]
    functions: tuple[CFunction, ...]
    module: Module
    options: tuple[tuple[str, object], ...] = ()
    license: str = "GPL"
    warnings: tuple[tuple[str, str, str], ...] = ()
    depends: tuple[tuple[str, str, str], ...] = ()

    def table(self, name: str) -> CTable | None:
        return next((table for table in self.tables if table.name == name), None)

    def function(self, name: str) -> CFunction | None:
        return next((function for function in self.functions if function.name == name), None)
