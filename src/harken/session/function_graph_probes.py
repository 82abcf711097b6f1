"""A call graph without the function_graph tracer: probes at the start and at the end of chosen functions.

For kernel functions fentry/fexit, else kprobe/kretprobe; for functions of programs and libraries uprobe/uretprobe.  The graph has only
the functions that were chosen: what others did in between is part of the caller's own time.
"""

from __future__ import annotations

from ..analysis.function_graph import pair
from ..base.errors import LimitError, ProbeError, SourceError
from ..base.glob import is_glob, select
from .api import Trace, trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..analysis.function_graph import Step
    from ..kernel.kernel import Kernel

__all__ = ("ProbeGraph", "kernel_graph", "user_graph")

_MOST = 1000
_KPROBES = ("kprobe_multi", "kprobe_perf", "kprobe_tracefs")


class ProbeGraph:
    """A running call graph: a context manager; ``trace`` is the program under it, ``mechanism`` the kind of its probes."""

    def __init__(self, trace: Trace, mechanism: str) -> None:
        self.trace, self.mechanism = trace, mechanism
        self._comms: dict[int, str] = {}

    def __enter__(self) -> ProbeGraph:
        self.trace.start()
        return self

    def __exit__(self, *_details: object) -> None:
        self.trace.close()

    def stop(self) -> None:
        self.trace.stop()

    def steps(self) -> Iterator[Step]:
        """Entries and returns as they come; functions are names."""
        yield from pair(self._points())

    def comm(self, pid: int) -> str:
        """The name of a thread that was seen."""
        return self._comms.get(pid, "<...>")

    @property
    def lost(self) -> int:
        """Events that were lost."""
        return sum(loss.count for loss in self.trace.losses)

    def _points(self) -> Iterator[tuple[int, int, int, bool, str, int | None]]:
        for event in self.trace:
            if event.action != "printf":
                continue
            time, cpu, pid, entry, probe, *more = event.values
            if entry:
                self._comms[pid] = more[0]
            yield time, cpu, pid, bool(entry), probe.rpartition(":")[2], None if entry else more[0]


def _program(starts: Sequence[str], ends: Sequence[str]) -> str:
    head = 'printf("%llu %u %d %d %s '
    return (
        f'{", ".join(starts)} {{ {head}%s\\n", nsecs, cpu, tid, 1, probe, comm); }}\n'
        f'{", ".join(ends)} {{ {head}%llu\\n", nsecs, cpu, tid, 0, probe, retval); }}\n'
    )


def _choose(patterns: Sequence[str], names: Sequence[str], where: str) -> list[str]:
    found: dict[str, None] = {}
    for pattern in patterns:
        hits = select(pattern, names) if is_glob(pattern) else [pattern] if pattern in names else []
        if not hits:
            from ..kernel.ftrace_events import near_names

            near = near_names(names, pattern)
            raise ProbeError(f"no function of {where} matches {pattern!r}", f"did you mean {' or '.join(near)}?" if near else "")
        found.update(dict.fromkeys(hits))
    if len(found) > _MOST:
        raise LimitError(f"{len(found)} functions are too many for probes at both ends of each", f"choose at most {_MOST}")
    return list(found)


def user_graph(
    binary: str, functions: Sequence[str], *, pid: int | None = None, command: Sequence[str] | None = None, duration: float | None = None
) -> ProbeGraph:
    """A graph of functions of a program or library.

    Args:
        functions: names or globs.
        pid, command, duration: as of ``harken.trace``.

    Raises:
        ProbeError: no such function; FormatError: not an ELF file.
    """
    from ..kernel.kernel import live
    from ..probes.catalogue import Catalogue

    elf = Catalogue(live()).binary(binary)
    chosen = _choose(functions, sorted({name for name, _, _ in elf.functions()}), binary)
    program = _program([f"uprobe:{binary}:{name}" for name in chosen], [f"uretprobe:{binary}:{name}" for name in chosen])
    return _traced(program, "uprobe/uretprobe", pid, command, duration)


def kernel_graph(
    kernel: Kernel,
    functions: Sequence[str],
    *,
    pid: int | None = None,
    command: Sequence[str] | None = None,
    duration: float | None = None,
    using: str = "",
) -> ProbeGraph:
    """A graph of kernel functions.

    Args:
        functions: names or globs.
        using: "fentry" or "kprobe"; "": the first that this kernel allows.

    Raises:
        ProbeError: none is possible here, with the reasons.
    """
    from ..kernel.features import Features
    from ..probes.catalogue import Catalogue

    features = Features(kernel)
    reasons = []
    mechanism = ""
    for name, wanted in (("fentry", ("fentry",)), ("kprobe", _KPROBES)):
        if using not in ("", name):
            continue
        answers = [features.answer(one) for one in wanted]
        if any(answer.state == "yes" for answer in answers):
            mechanism = name
            break
        reasons.append(f"{name}: {answers[0].reason}")
    if not mechanism:
        raise ProbeError(
            "there is no way to trace calls of kernel functions here (" + "; ".join(reasons) + ")",
            "functions of programs and libraries can be traced: harken graph -x BINARY -F FUNCTION",
        )
    catalogue = Catalogue(kernel, features)
    chosen = _choose(functions, sorted({name for name, _ in catalogue.functions()}), "the kernel")
    if mechanism == "fentry":
        described = catalogue.described()
        if all(name in described for name in functions if not is_glob(name)):
            chosen = [name for name in chosen if name in described]
        elif not using and any(features.answer(one).state == "yes" for one in _KPROBES):
            mechanism = "kprobe"  # fentry needs the function's types
        if not chosen:
            raise ProbeError("BTF describes none of these functions, so fentry cannot trace them", "try --using kprobe")
    first, second = ("fentry", "fexit") if mechanism == "fentry" else ("kprobe", "kretprobe")
    program = _program([f"{first}:{name}" for name in chosen], [f"{second}:{name}" for name in chosen])
    return _traced(program, f"{first}/{second}", pid, command, duration)


def _traced(program: str, mechanism: str, pid: int | None, command: Sequence[str] | None, duration: float | None) -> ProbeGraph:
    """The graph of a program, whose text nobody has written and nobody wants to see in an error."""
    try:
        return ProbeGraph(trace(program, pid=pid, command=command, duration=duration, name="graph"), mechanism)
    except SourceError as error:
        raise ProbeError(error.message, error.hint) from None
