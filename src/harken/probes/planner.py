"""The planner: which mechanism attaches which probe on this kernel, and why not another.

Every kind of probe can be attached in several ways; which of them a kernel has depends on its configuration, its age and its policy.
The planner walks a probe's mechanisms from the best to the last and takes the first that the kernel has *and* that means the same to
the program: an fentry program has no registers, so a kprobe that reads ``reg()`` is never made an fentry.  Everything it decided is in
the ``Plan``, for ``--explain``.

=============  =============================================================  =====================================================
probe          one place                                                      several places that share a program
=============  =============================================================  =====================================================
kprobe         fentry, kprobe_multi, kprobe_perf, kprobe_tracefs, tracepoint  kprobe_multi, kprobe_perf, kprobe_tracefs, fentry
kretprobe      fexit, kprobe_multi, kprobe_perf, kprobe_tracefs, tracepoint   kprobe_multi, kprobe_perf, kprobe_tracefs, fexit
rawtracepoint  tp_btf (typed arguments are used), raw_tracepoint              raw_tracepoint, tp_btf
uprobe, usdt   uprobe_multi, uprobe_perf, uprobe_tracefs                      uprobe_multi, uprobe_tracefs, uprobe_perf
others         the only one there is
=============  =============================================================  =====================================================

The last resort of a kprobe on a system call's implementation (``__x64_sys_openat``) is the system call's tracepoint, and only if the
program uses nothing that differs there.  For any other function the user is told what to write instead.
"""

from __future__ import annotations

from ..base.errors import LimitError, ProbeError
from .attachers import ATTACHERS
from .model import Plan, Probe
from .providers import PROVIDERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..formats.spec import AttachSpec
    from .model import Attacher

__all__ = ("plan", "places", "refusal", "sentence", "MAX_PROGRAMS")

#: The most programs of one text unless configured otherwise (bpftrace's ``max_bpf_progs``).
MAX_PROGRAMS = 1024

#: Why each mechanism is taken when it is.
_MERITS = {
    "tracepoint": "the kernel's own static event",
    "raw_tracepoint": "no record is formatted, and one program serves many events",
    "tp_btf": "typed arguments are read directly",
    "fentry": "the cheapest way into a function",
    "fexit": "the cheapest way out of a function",
    "kprobe_multi": "one link for all functions",
    "kprobe_perf": "a perf event per place, which ends with harken",
    "kprobe_tracefs": "the oldest way; the event is removed at the end",
    "uprobe_multi": "one link for all places of a file",
    "uprobe_perf": "a perf event per place, which filters whole processes and ends with harken",
    "uprobe_tracefs": "one event for all places; it is removed at the end",
    "perf_timer": "the CPU clock's perf events",
    "perf_software": "the kernel's counters",
    "perf_hardware": "the CPU's counters",
    "run": "harken runs the program itself",
}


#: Where there is no uprobe_multi, up to this many uprobes are perf events; more are too slow to close (a grace period each).
_FEW = 4


def plan(
    probes: tuple[Probe, ...],
    catalogue: Any,
    uses: frozenset[str] = frozenset(),
    *,
    pid: int = -1,
    max_programs: int = MAX_PROGRAMS,
    avoid: tuple[str, ...] = (),
) -> tuple[Plan, ...]:
    """Chooses mechanisms for the probes of one action block.

    Args:
        probes: all probes of the block, wildcards expanded.
        catalogue: a ``probes.catalogue.Catalogue``.
        uses: what the block reads of its probe: words of ``model.USES``; "arg0", "arg1", ... rather than "arg" where it is known which.
        pid: the process that tracing is limited to, -1 for none.
        max_programs: the most programs that are accepted.
        avoid: mechanisms that were refused when they were tried.

    Returns:
        Plans, each one program: its probes share the program.  A plan whose ``attacher`` is "" could not be made (see ``refusal``).

    Raises:
        LimitError: more than ``max_programs`` programs are needed.
    """
    if any(name[:3] == "arg" and name[3:].isdigit() for name in uses):
        uses |= {"arg"}
    named = bool(uses & {"probe", "func"})
    alone = "place" in uses
    numbers: dict[str, int] = {}
    for probe in probes:
        numbers[probe.kind] = numbers.get(probe.kind, 0) + 1
    answers = _Answers(catalogue, avoid)
    groups: dict[tuple[Any, ...], list[Probe]] = {}
    chosen: dict[tuple[Any, ...], tuple[str, str, tuple[tuple[str, str], ...]]] = {}
    seen: dict[tuple[Any, ...], int] = {}
    for probe in probes:
        order = _order(probe, numbers[probe.kind], alone, uses, named)
        name, reason, rejected = _choose(probe, order, catalogue, uses, answers, pid)
        # the same place twice needs two programs: the kernel runs a program once per place
        twice = seen[probe.kind, probe.name] = seen.get((probe.kind, probe.name), 0) + 1
        key: tuple[Any, ...] = (name, reason, probe.kind, twice)
        if not name:
            key += rejected
        else:
            if alone or not ATTACHERS[name].shares or (named and not ATTACHERS[name].cookies):
                key += (len(groups),)
            elif uses & {"args", "arg", "retval"}:
                key += (_shape(probe, catalogue, uses),)
        groups.setdefault(key, []).append(probe)
        chosen.setdefault(key, (name, reason, rejected))
    made = sum(1 for name, _, _ in chosen.values() if name)
    if made > max_programs:
        raise LimitError(
            f"Your program is trying to generate more than {max_programs} BPF programs, which exceeds the current limit of {max_programs}",
            "make the wildcard narrower, leave out `probe` and `func` (they need a program per probe here), or raise max_bpf_progs",
        )
    plans = []
    for key, members in groups.items():
        name, reason, rejected = chosen[key]
        if name:
            plans.append(Plan(tuple(members), name, reason, rejected))
        else:
            plans.append(
                Plan(
                    tuple(members),
                    "",
                    sentence(tuple(members), rejected, answers.short),
                    rejected,
                    _hint(members[0], catalogue, uses, answers, rejected),
                )
            )
    return tuple(plans)


def places(chosen: Plan, catalogue: Any) -> tuple[AttachSpec, ...]:
    """Where the plan's program goes (``compiler.ir.Program.attach``).

    Raises:
        ProbeError: the plan could not be made.
    """
    if not chosen.attacher:
        raise refusal(chosen)
    return ATTACHERS[chosen.attacher].places(chosen.probes, catalogue)


def refusal(failed: Plan) -> ProbeError:
    """The error for a plan that could not be made."""
    return ProbeError(failed.reason, failed.hint)


class _Answers:
    """The kernel's answers, asked once each; ``short`` has what a one-sentence error says instead of a long reason."""

    def __init__(self, catalogue: Any, avoid: tuple[str, ...] = ()) -> None:
        self.avoid = avoid
        self._features = catalogue.features
        self._known: dict[str, tuple[str, str]] = {}
        self.short: dict[str, str] = {}

    def __call__(self, name: str) -> tuple[str, str]:
        """(state, reason) of a feature."""
        if name not in self._known:
            answer = self._features.answer(name)
            reason = answer.reason or f"this kernel has no {name}"
            self._known[name] = (answer.state, reason)
            self.short[reason] = _short(answer)
        return self._known[name]


def _short(answer: Any) -> str:
    """An answer's reason without the evidence."""
    if answer.cause == "policy":
        from ..kernel.bpf_errors import errno_name

        return f"refused by policy, {errno_name(answer.errno)}"
    text: str
    text, _, evidence = answer.reason.partition(" (")
    return text.removesuffix(" in this kernel") if evidence and text else str(answer.reason)


def _order(probe: Probe, number: int, alone: bool, uses: frozenset[str], named: bool = False) -> tuple[str, ...]:
    """A probe's mechanisms, the best first.

    Args:
        number: so many probes of the kind stand in the block.
        alone: each with a program of its own.
        named: each with a program of its own unless the mechanism tells the program which probe was hit.
    """
    names = PROVIDERS[probe.kind].attachers
    if number > 1 and named:
        names = tuple(sorted(names, key=lambda name: not ATTACHERS[name].cookies))
    elif number > 1 and not alone:
        # a mechanism that needs a program per place comes last: many small programs load slowly
        names = tuple(sorted(names, key=lambda name: not ATTACHERS[name].shares))
    if probe.kind == "rawtracepoint" and "args" not in uses:
        names = tuple(sorted(names, key=lambda name: name == "tp_btf"))
    if number > _FEW and "uprobe_perf" in names:
        names = tuple(sorted(names, key=lambda name: name == "uprobe_perf"))
    if probe.kind in ("kprobe", "kretprobe"):
        from .suggest import syscall_of

        if syscall_of(probe.name[1], entry=True):
            names += ("tracepoint",)
    return names


def _choose(
    probe: Probe, order: tuple[str, ...], catalogue: Any, uses: frozenset[str], answers: _Answers, pid: int = -1
) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """(attacher, reason, rejected) for one probe; what the kernel could not tell is tried only when nothing is certain."""
    rejected: list[tuple[str, str]] = []
    doubtful = ("", "")
    for index, name in enumerate(order):
        attacher = ATTACHERS[name]
        state, why = _fits(attacher, probe, catalogue, uses, answers, pid)
        if state == "yes":
            later = tuple((other, f"not needed: {name} comes first") for other in order[index + 1 :])
            return name, _MERITS[name], (*rejected, *later)
        if state == "unknown" and not doubtful[0]:
            doubtful = (name, why)
        rejected.append((name, why))
    if doubtful[0]:
        name, why = doubtful
        return name, f"the only one left to try, though {why}", tuple(pair for pair in rejected if pair[0] != name)
    return "", "", tuple(rejected)


def _fits(attacher: Attacher, probe: Probe, catalogue: Any, uses: frozenset[str], answers: _Answers, pid: int = -1) -> tuple[str, str]:
    """("yes", ""), or "no" or "unknown" with why; what costs least to find out is asked first."""
    # what is different in a stand-in is what was asked for in the real thing: kstack of a fentry probe begins in the trampoline
    if attacher.name in answers.avoid:
        return "no", "it was refused when it was tried"
    lacking = sorted(attacher.lacks & uses) if attacher.name != probe.kind else []
    if lacking:
        return "no", f"{' and '.join(lacking)} would not mean the same there"
    doubt = ""
    needs = attacher.needs
    if pid >= 0 and "uprobe_multi" in needs:
        needs += ("uprobe_multi_pid",)
    for need in needs:
        state, reason = answers(need)
        if state == "no":
            return "no", reason
        if state != "yes":
            doubt = doubt or f"harken could not tell whether this kernel has {need} ({reason})"
    why = attacher.refuses(probe, catalogue, uses)
    if why:
        return "no", why
    return ("unknown", doubt) if doubt else ("yes", "")


def _shape(probe: Probe, catalogue: Any, uses: frozenset[str]) -> tuple[Any, ...]:
    """What must be equal for two probes to share a program that reads arguments or the return value."""
    seen = PROVIDERS[probe.kind].view(probe, catalogue)
    shape: list[Any] = [seen.space]
    if "args" in uses:
        shape.append(tuple((arg.name, str(arg.type), arg.type.size, arg.offset, arg.data_loc) for arg in seen.args))
    if "arg" in uses:
        shape.append((seen.operands, seen.positional))
    if "retval" in uses and seen.returns is not None:
        shape.append((str(seen.returns), seen.returns.size))
    return tuple(shape)


def sentence(probes: tuple[Probe, ...], rejected: tuple[tuple[str, str], ...], short: dict[str, str] | None = None) -> str:
    """Why nothing can attach the probes, as one sentence; mechanisms with the same reason are named together.

    Args:
        probes: at least one.
        rejected: (mechanism, why) pairs.
        short: what to say instead of some reasons.

    >>> from harken.probes.model import Probe
    >>> probe = Probe("kprobe", ("", "f", 0), "kprobe:f")
    >>> sentence((probe,), (("fentry", "EPERM"), ("kprobe_multi", "no kprobes"), ("kprobe_perf", "no kprobes")))
    'kprobe:f cannot be attached on this kernel: fentry (EPERM); kprobe_multi and kprobe_perf (no kprobes)'
    """
    subject = str(probes[0]) + (f" (and {len(probes) - 1} more)" if len(probes) > 1 else "")
    reasons: dict[str, list[str]] = {}
    for name, why in rejected:
        reasons.setdefault((short or {}).get(why, why), []).append(name)
    parts = []
    for why, names in reasons.items():
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        parts.append(f"{listed} ({why})")
    return f"{subject} cannot be attached on this kernel: {'; '.join(parts)}"


def _there(name: str, module: str, catalogue: Any) -> bool:
    """Whether the kernel has a function, whatever describes it."""
    owner = "" if module == "vmlinux" else module
    return any(one == name for one, _ in catalogue.functions()) or bool(catalogue.kernel_symbols.addresses(name, owner))


def _hint(probe: Probe, catalogue: Any, uses: frozenset[str], answers: _Answers, rejected: tuple[tuple[str, str], ...]) -> str:
    if probe.kind in ("fentry", "fexit"):
        # the function's other kind of probe, if that can be had
        kind = "kprobe" if probe.kind == "fentry" else "kretprobe"
        twin = Probe(kind, probe.name, probe.text.replace(probe.kind, kind, 1))
        if not _there(probe.name[1], probe.name[0], catalogue):
            return f"this kernel has no function {probe.name[1]} of its own: it is inlined, or called otherwise"
        if _choose(twin, _order(twin, 1, False, uses), catalogue, uses, answers)[0]:
            return f"{twin} works on this kernel; there the arguments are arg0, arg1, ..."
    from .suggest import instead

    others = instead(probe, catalogue)
    if any("functions are called" in why for _, why in rejected):
        return f"probe one by its address: `grep ' {probe.name[1]}$' /proc/kallsyms` lists them"
    if others:
        return f"trace {' and '.join(others)} instead"
    return "`harken doctor` says what would make each mechanism available"
