"""``trace-cmd reset``: everything off and back to how the kernel came up, buffers emptied.

    reset [-b KB] [-B BUFFER [-b KB] [-d]] [-a [-d]] [-t] [-k KIND]

The order counts: ``-b`` (size) and ``-d`` (delete) are for the buffer named before them.  Unlike trace-cmd, dynamic events (kprobes,
uprobes, synthetic events) that are in use, or that belong to a running harken, stay; ``-k all`` keeps them all, ``-k kprobe`` those of
a kind.
"""

from __future__ import annotations

from ...base.errors import KernelError, UsageError
from ...kernel.ftrace import Ftrace
from ...kernel.ftrace_masks import mask_text
from ...kernel.tracefs_instances import instance_names
from ...kernel.tracefs_owner import owner_of
from .arguments import number, parse
from .buffers import existing
from .setup import open_tracefs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...kernel.tracefs import Tracefs

__all__ = ("run", "reset_buffer", "remove_dynamic")

#: first letter of a line of dynamic_events -> the name of the kind on the command line
_KINDS = {"p": "kprobe", "r": "kretprobe", "s": "synth", "e": "eprobe", "f": "fprobe", "t": "tprobe"}
_KEPT = (*_KINDS.values(), "uprobe", "uretprobe", "all")
_OFF = (("tracing_thresh", "0"), ("tracing_max_latency", "0"), ("max_graph_depth", "0"))
_EMPTY = ("set_event_pid", "set_event_notrace_pid", "set_ftrace_pid", "set_ftrace_notrace_pid")
_LISTS = ("set_ftrace_filter", "set_ftrace_notrace", "set_graph_function", "set_graph_notrace")


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    pairs, rest = parse(argv, "b:B:adtk:h", ("help",))
    if any(option in ("h", "help") for option, _ in pairs):
        print("usage:\n  harken trace-cmd reset [-b KB] [-B BUFFER [-b KB] [-d]] [-a [-d]] [-t] [-k KIND]\n")
        print("   KIND: kprobe, kretprobe, uprobe, uretprobe, eprobe, fprobe, tprobe, synth or all")
        return 0
    if rest:
        raise UsageError(f"reset takes no {rest[0]!r}")
    root = open_tracefs()
    todo: dict[str, dict[str, int]] = {}
    current = [""]
    chosen = False
    kept: set[str] = set()
    for option, value in pairs:
        if option == "B":
            current, chosen = [value], True
        elif option == "a":
            current, chosen = [name for name in instance_names(root) if owner_of(name) is None], True
        elif option == "t":
            current, chosen = [""], True
        elif option == "k":
            if value not in _KEPT:
                raise UsageError(f"there is no kind {value!r} of dynamic events", ", ".join(_KEPT))
            kept.add(value)
            continue
        elif option == "b":
            for name in current:
                todo.setdefault(name, {})["size"] = number(value, "-b")
        elif option == "d":
            if current == [""]:
                raise UsageError("the top buffer cannot be deleted", "-d stands behind the -B or -a that it is for")
            for name in current:
                todo.setdefault(name, {})["delete"] = 1
        if option in "Bat":
            for name in current:
                todo.setdefault(name, {})
    if not chosen:
        todo.setdefault("", {})
    for name, wishes in todo.items():
        trace = existing(root, name)
        reset_buffer(trace)
        if "size" in wishes:
            trace.tracefs.write("buffer_size_kb", str(wishes["size"]))
        if wishes.get("delete") and not trace.remove():
            raise KernelError(f"the buffer {name!r} is in use", errno=16, hint="somebody reads it, or has a tracer in it")
    if "" in todo:
        remove_dynamic(root, kept)
    return 0


def reset_buffer(trace: Ftrace) -> None:
    """Switches off whatever one buffer may have switched on."""
    tracefs = trace.tracefs
    tracefs.write("tracing_on", "0")
    tracefs.write("current_tracer", "nop")
    _try(trace, "events/enable", "0")
    _triggers(trace)
    _filters(trace)
    for file in _EMPTY:
        _try(trace, file, "\n")
    for file in _LISTS:
        _try(trace, file, "\n")
    for file, value in _OFF:
        if not trace.name:
            _try(trace, file, value)
    _options(trace)
    clocks, chosen = tracefs.clocks()
    if chosen != "local" and "local" in clocks:
        tracefs.write("trace_clock", "local")
    _try(trace, "tracing_cpumask", mask_text(trace.kernel, "-1"))
    if trace.has("snapshot"):
        _try(trace, "snapshot", "0")
    _try(trace, "trace", "\n")
    _try(trace, "error_log", "\n")
    _try(trace, "tracing_on", "1")


#: Options that are on when a kernel comes up; all others are off (kernel/trace/trace.c, TRACE_DEFAULT_FLAGS and the tracers' own).
_DEFAULT_ON = frozenset(
    "print-parent trace_printk annotate context-info record-cmd overwrite irq-info markers hash-ptr function-trace sleep-time graph-time "
    "funcgraph-cpu funcgraph-overhead funcgraph-duration funcgraph-irqs trace_printk_dest".split()
)


def _options(trace: Ftrace) -> None:
    """Gives options back, those of tracers too: ``trace_options`` has those of the chosen one only, so the files are read."""
    usual = _DEFAULT_ON if trace.name else _DEFAULT_ON | {"copy_trace_marker"}  # since Linux 6.16: what users write goes to the top buffer
    for name in sorted(trace.kernel.listdir(trace.tracefs.path("options")) if trace.has("options") else ()):
        if name.startswith("test_nop"):  # they refuse by design
            continue
        try:
            on = trace.tracefs.read(f"options/{name}", 16).strip() == "1"
        except KernelError:  # as in _try
            continue
        if on != (name in usual) and (on or name not in ("trace_printk_dest", "graph-time", "sleep-time")):
            _try(trace, f"options/{name}", "0" if on else "1")


def _try(trace: Ftrace, file: str, value: str) -> None:
    if trace.has(file):
        try:
            trace.tracefs.write(file, value)
        except KernelError:  # a policy may forbid a file that this reset has nothing to change in
            pass


def _filters(trace: Ftrace) -> None:
    for system in dict.fromkeys(system for system, _ in trace.events):
        file = f"events/{system}/filter"
        if trace.has(file):
            try:
                trace.tracefs.write(file, "0")
            except KernelError:
                continue


def _triggers(trace: Ftrace) -> None:
    """Removes triggers, the last one of an event first: later ones may use what earlier ones define."""
    for system, event in trace.events:
        file = f"events/{system}/{event}/trigger"
        try:
            text = trace.kernel.read(trace.tracefs.path(file), 1 << 20).decode("utf-8", "surrogateescape")
        except OSError:
            continue
        for line in reversed([line for line in text.split("\n") if line and not line.startswith("#")]):
            # what is shown behind the last bracket is a state ("[active]"), not part of the command
            command = line.rpartition(" [")[0] if line.endswith("]") else line
            try:
                trace.tracefs.write(file, "!" + command, True)
            except KernelError:
                continue


def remove_dynamic(root: Tracefs, kept: set[str]) -> None:
    """Removes dynamic events but those of kinds that are kept, those in use, and those of a harken that runs."""
    if "all" in kept:
        return
    if not root.exists("dynamic_events"):
        return
    uprobes = {line.split(" ")[0] for line in root.read("uprobe_events").split("\n") if line} if root.exists("uprobe_events") else set()
    for line in reversed(root.read("dynamic_events").split("\n")):
        head = line.split(" ")[0]
        letter, colon, name = head.partition(":")
        kind = _KINDS.get(letter[:1])
        if kind is None or not colon:
            continue
        if head in uprobes:
            kind = kind.replace("k", "u", 1) if kind.startswith("k") else kind
        if kind in kept or owner_of(name.partition("/")[0]) is not None:
            continue
        try:
            root.write("dynamic_events", f"-:{name}", True)
        except KernelError:
            continue
