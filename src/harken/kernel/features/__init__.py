"""What this kernel allows, found out by trying.

Every feature has a name; ``Features(kernel).answer(name)`` is "yes", "no" or "unknown" with the reason, the call that was made and its
errno.  Nothing is concluded from a kernel's version.  A "no" says why: the option that is missing in the kernel's build, the capability
that the process lacks, the hardware that is not there, or a policy that refuses what the kernel could do.  "unknown" means that the
attempt failed for a reason of the moment (no memory, too many files), and is never remembered.

Answers are kept on disk for the boot, the user and the privileges they were found under, so that asking again costs microseconds; a
refusal by policy is believed for ten minutes only.  The modules that do the asking are imported when a question is new.

Names
    *of the compiler's target*: ringbuf, probe_read_space, atomic_fetch, jmp32, bounded_loops, insns_1m, bpf_loop, for_each,
    iter_num, ktime_boot, percpu_alloc_nmi, cpu_v4, btf_func (``compiler.target`` explains them)

    *mechanisms*: kprobe_multi, kprobe_session, kprobe_perf, kprobe_tracefs, fentry, fexit, fmod_ret, fsession, lsm, uprobe_multi,
    uprobe_multi_pid (it filters whole processes), uprobe_session, uprobe_perf, uprobe_tracefs, usdt_refcount, tracepoint_perf,
    raw_tracepoint, tp_btf, iter, perf_software, perf_hardware, perf_cache, perf_tracepoint, perf_self, breakpoint, prog_run

    *tracefs*: tracefs, instances, function_tracer, function_graph, filter_functions, kprobe_args, fprobe_events, event_probes,
    hist_triggers, synthetic_events, snapshot, stack_tracer, user_events, syscall_tracepoints

    *the rest*: bpf, btf_vmlinux, btf_modules, jit, bpf_stats, cgroup2, perf_events

    *families*: ``map:TYPE``, ``program:TYPE`` and ``helper:PROGRAM:NAME`` with bpftool's lower-case names ("map:lpm_trie",
    "helper:kprobe:get_stackid")
"""

from __future__ import annotations

import time
from zlib import crc32

from ...base.cache import load, store
from ...base.record import Record
from ..kernel import LinuxKernel
from ..procfs import boot_id, status, sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..kernel import Kernel
    from .asking import Asking

__all__ = ("Answer", "Features", "NAMES", "Offered", "TARGET_NAMES", "MECHANISMS", "all_names", "keep")

#: Part of the cache's name: changes when the meaning of an answer does.
_FORMAT = "features-1"
#: Seconds for which a refusal by policy is believed; policies can be changed while the machine runs.
_POLICY_AGE = 600

#: The names of ``compiler.target``.
TARGET_NAMES = (
    "ringbuf probe_read_space atomic_fetch jmp32 bounded_loops insns_1m bpf_loop for_each iter_num ktime_boot percpu_alloc_nmi "
    "cpu_v4 btf_func"
).split()

_MODULES = {
    "bpf": [*TARGET_NAMES, "bpf", "jit", "bpf_stats", "btf_vmlinux", "btf_modules", "prog_run"],
    "attach": (
        "kprobe_multi kprobe_session kprobe_perf fentry fexit fmod_ret fsession lsm uprobe_multi uprobe_multi_pid uprobe_session "
        "uprobe_perf usdt_refcount tracepoint_perf raw_tracepoint tp_btf iter"
    ).split(),
    "events": "perf_events perf_software perf_hardware perf_cache perf_tracepoint perf_self breakpoint".split(),
    "tracing": (
        "tracefs instances function_tracer function_graph filter_functions kprobe_tracefs uprobe_tracefs kprobe_args fprobe_events "
        "event_probes hist_triggers synthetic_events snapshot stack_tracer user_events syscall_tracepoints cgroup2"
    ).split(),
}
#: Name -> module of this package that can ask.
NAMES = {name: module for module, names in _MODULES.items() for name in names}
#: The ways to get a program run at a probe.
MECHANISMS = tuple(_MODULES["attach"]) + ("kprobe_tracefs", "uprobe_tracefs")


class Answer(Record):
    """What was found out.

    ``state``: "yes", "no" or "unknown".  ``reason``: a sentence for the user, "" with yes unless there is something to add.
    ``errno``: of the refused call, 0 if none was.  ``tried``: the call or file that decided.
    ``cause``: for programs: "" | "config:CONFIG_X" | "capability:NAMES" | "sysctl:NAME" | "policy" | "lockdown" | "seccomp" | "hardware" |
    "kernel" (this kernel lacks it, no option brings it) | "needs:FEATURE" | "moment".
    """

    state: str
    reason: str = ""
    errno: int = 0
    tried: str = ""
    cause: str = ""


def all_names() -> list[str]:
    """All names with all members of the families but helpers (which are too many to ask for by default)."""
    from ...abi.bpf_names import MAP_TYPES, PROG_TYPES

    names = list(NAMES)
    names += [f"program:{name}" for number, name in PROG_TYPES.items() if number]
    names += [f"map:{name}" for number, name in MAP_TYPES.items() if number]
    return names


#: Those whose answers are not on disk yet.
_unsaved: list[Features] = []


def keep() -> None:
    """Stores what is not stored yet; at the end of the process, or when somebody has a moment."""
    while _unsaved:
        _unsaved.pop().save()


class Offered:
    """The names of ``compiler.target`` that a kernel has, each asked for when it is wanted: few programs need all.

    >>> from harken.testing.fake_kernel import FakeKernel
    >>> "jmp32" in Offered(Features(FakeKernel({})))
    False
    """

    def __init__(self, features: Features) -> None:
        self._features = features

    def __contains__(self, name: object) -> bool:
        return name in TARGET_NAMES and self._features.has(str(name))

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, answer in self._features.answers(TARGET_NAMES).items() if answer.state == "yes"])


class Features:
    """Questions to a kernel.

    Args:
        kernel: whom to ask.
        cached: use and fill the cache on disk; by default only for the kernel that is running, whose single answers are kept in memory
            until ``save`` or ``keep``.
    """

    def __init__(self, kernel: Kernel, cached: bool | None = None) -> None:
        self.kernel = kernel
        self._cached = isinstance(kernel, LinuxKernel) if cached is None else cached
        self._later = self._cached and cached is None
        self._answers: dict[str, Answer] = {}
        self._stored: dict[str, str] | None = None
        self._key = ""
        self._asking: Asking | None = None
        self._batch = False
        self._dirty = False

    def answer(self, name: str, fresh: bool = False) -> Answer:
        """The answer about one feature.  Probes that were attached to find out may still be on their way out when it returns.

        Args:
            name: as in the module's documentation.
            fresh: try again even if the answer is known (a policy may have changed).

        Raises:
            KeyError: there is no feature of that name.
        """
        if not fresh:
            found = self._answers.get(name) or self._recall(name)
            if found is not None:
                return found
        found = self._ask(name)
        if not self._batch and self._asking is not None:
            self._asking.settle(wait=False)
        self._answers[name] = found
        if found.state != "unknown":
            self._remember(name, found)
        return found

    def has(self, name: str) -> bool:
        """Whether the answer is yes."""
        return self.answer(name).state == "yes"

    def answers(self, names: Iterable[str], fresh: bool = False) -> dict[str, Answer]:
        """Many answers; the cache is written once, and nothing is left attached when it returns."""
        self._batch = True
        try:
            return {name: self.answer(name, fresh) for name in names}
        finally:
            self._batch = False
            if self._asking is not None:
                self._asking.settle()
            self.save()

    def target(self) -> tuple[str, Offered]:
        """(machine, names) for ``compiler.target.Target``: what programs for this kernel may use."""
        return self.kernel.machine, Offered(self)

    def forget(self) -> None:
        """Drops all answers, also those on disk, as soon as a new one is stored."""
        self._answers = {}
        self._stored = {}
        self._asking = None

    def _ask(self, name: str) -> Answer:
        from .asking import Asking, module

        if self._asking is None:
            self._asking = Asking(self.kernel, self)
        return self._asking.besides(name, module(name)(self._asking, name))

    # -- the cache

    def _load(self) -> dict[str, str]:
        if self._stored is None:
            self._stored = {}
            if self._cached:
                self._key = _key(self.kernel)
                data = load(_FORMAT, self._key) if self._key else None
                if data:
                    for line in data.decode("utf-8", "replace").split("\n"):
                        name, tab, rest = line.partition("\t")
                        if tab:
                            self._stored[name] = rest
        return self._stored

    def _recall(self, name: str) -> Answer | None:
        line = self._load().get(name)
        if line is None:
            return None
        words = line.split("\t")
        if len(words) != 6 or words[0] not in ("yes", "no"):
            return None
        state, number, when, cause, tried, reason = words
        try:
            if cause in ("policy", "lockdown", "seccomp") and not 0 <= time.time() - int(when) < _POLICY_AGE:
                return None
            found = Answer(state, reason, int(number), tried, cause)
        except ValueError:
            return None
        self._answers[name] = found
        return found

    def _remember(self, name: str, found: Answer) -> None:
        words = (found.state, str(found.errno), str(int(time.time())), found.cause, found.tried, found.reason)
        self._load()[name] = "\t".join([word.replace("\t", " ").replace("\n", " ") for word in words])
        if self._later and not self._dirty:
            import atexit

            atexit.register(keep)  # once more does no harm
            _unsaved.append(self)
        self._dirty = True
        if not self._batch and not self._later:
            self.save()

    def save(self) -> None:
        """Writes new answers to the cache; not if this process has other privileges now than when it began to ask."""
        if self._cached and self._dirty and self._stored:
            self._dirty = False
            now = _key(self.kernel)
            if now and now == (self._key or now):
                self._key = now
                text = "\n".join([f"{name}\t{rest}" for name, rest in self._stored.items()])
                store(_FORMAT, self._key, text.encode("utf-8", "surrogateescape"))


def _key(kernel: Kernel) -> str:
    """Names the boot and the privileges that answers hold for; "" if the boot has no name, and then nothing is kept."""
    boot = boot_id(kernel)
    own = status(kernel)
    if not boot or own is None:
        return ""
    try:
        space = crc32(kernel.read("/proc/self/uid_map", 4096))  # the user namespace, without a system call that would load ctypes
    except OSError:
        space = 0
    paranoid = sysctl(kernel, "kernel.perf_event_paranoid") or "="
    return f"{boot.replace('-', '')}-{own.euid}-{own.effective:x}-{own.seccomp}-{space:x}-{paranoid}"[:80]
