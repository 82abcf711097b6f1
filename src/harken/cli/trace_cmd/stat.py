"""``trace-cmd stat``: what is switched on in tracefs: tracer, events, filters, triggers, buffers, clock, probes."""

from __future__ import annotations

from ...base.errors import KernelError, UsageError
from ...kernel.ftrace import Ftrace
from ...kernel.procfs import cpus_possible
from ...kernel.tracefs_instances import instance_names
from .arguments import parse
from .buffers import existing, option_lines
from .setup import open_tracefs

__all__ = ("run",)


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    pairs, rest = parse(argv, "B:toh", ("help",))
    names = [option for option, _ in pairs]
    if "h" in names or "help" in names:
        print("usage:\n  harken trace-cmd stat [-B BUFFER [-B ...]] [-t] [-o]\n\n   -t the top buffer, too   -o all options")
        return 0
    if rest:
        raise UsageError(f"stat takes no {rest[0]!r}")
    root = open_tracefs()
    buffers = [value for option, value in pairs if option == "B"]
    if not buffers or "t" in names:
        top = existing(root, "")
        if "t" not in names:
            others = instance_names(root)
            if others:
                print("\nInstances:")
                for name in others:
                    print(f" {name}")
        _buffer(top, "o" in names)
        _common(top)
    for index, name in enumerate(buffers):
        if index or "t" in names:
            print("---------------")
        print(f"Instance: {name}")
        trace = existing(root, name)
        _buffer(trace, "o" in names)
        _last(trace)
    return 0


def _text(trace: Ftrace, file: str) -> str:
    """The text of a file, "" where there is none (or none that may be read)."""
    try:
        return trace.tracefs.read(file).strip() if trace.has(file) else ""
    except KernelError:
        return ""


def _say(trace: Ftrace, file: str, usual: str, label: str) -> None:
    text = _text(trace, file)
    if text and text != usual:
        print(f"\n{label}{text}")


def _buffer(trace: Ftrace, options: bool) -> None:
    _say(trace, "current_tracer", "nop", "Tracer: ")
    _events(trace)
    _per_event(trace, "filter", "Filters", lambda text: text != "none")
    _per_event(trace, "trigger", "Triggers", lambda text: not text.startswith("#"))
    for file, label in (
        ("set_ftrace_filter", "Function Filter"),
        ("set_ftrace_notrace", "Function No Trace"),
        ("set_graph_function", "Function Graph Filter"),
        ("set_graph_notrace", "Function Graph No Trace"),
    ):
        lines = [line for line in _text(trace, file).split("\n") if line and not line.startswith("#")]
        if lines:
            print(f"\n{label}:")
            for line in lines:
                print(f"   {line}")
    _sizes(trace)
    clock = trace.clock
    if clock and clock != "local":
        print(f"\nClock: {clock}")
    _cpumask(trace)
    if options:
        print("\nOptions:")
        for line in option_lines(trace):
            print(f"   {line}")


def _common(trace: Ftrace) -> None:
    _say(trace, "tracing_max_latency", "0", "Max Latency: ")
    for file, label in (("kprobe_events", "Kprobe"), ("uprobe_events", "Uprobe"), ("synthetic_events", "Synthetic")):
        text = _text(trace, file)
        if text:
            print(f"\n{label} events:")
            for line in text.split("\n"):
                print(f"   {line}")
    _last(trace)
    if not trace.name:
        try:
            if trace.kernel.read("/proc/sys/kernel/stack_tracer_enabled", 16).strip() == b"1":
                print("Stack tracing is enabled\n")
        except OSError:  # not built in
            pass


def _last(trace: Ftrace) -> None:
    for file, label in (
        ("set_event_pid", "Filtered event PIDs:\n"),
        ("set_event_notrace_pid", "Filtered notrace event PIDs:\n"),
        ("set_ftrace_pid", "Filtered function tracer PIDs:\n"),
        ("set_ftrace_notrace_pid", "Filtered notrace function tracer PIDs:\n"),
    ):
        _say(trace, file, "no pid", label)
    on = _text(trace, "tracing_on") != "0"
    print(f"\nTracing is {'enabled' if on else 'disabled'}\n")
    text = _text(trace, "error_log")
    if text:
        print(f"\nError log:\n{text}")


def _events(trace: Ftrace) -> None:
    state = _text(trace, "events/enable")
    if not state:
        return
    print("\nEvents:")
    if state in ("0", "1"):
        print(" All enabled" if state == "1" else " All disabled")
        return
    systems: dict[str, list[str]] = {}
    for system, event in trace.events:
        systems.setdefault(system, []).append(event)
    states = {system: _text(trace, f"events/{system}/enable") for system in systems}
    whole = [system for system in systems if states[system].startswith("1")]
    if whole:
        print(" Individual systems:")
        for system in whole:
            print(f"   {system}")
    first = True
    for system, events in systems.items():
        if not states[system] or states[system][0] in "01":
            continue
        on = [event for event in events if _text(trace, f"events/{system}/{event}/enable").startswith("1")]
        if on:
            if first:
                print(" Individual events:")
                first = False
            print(f"    {system}")
            for event in on:
                print(f"        {event}")
    if first and not whole:
        print("  (none enabled)")


def _per_event(trace: Ftrace, file: str, label: str, wanted: object) -> None:
    first = True
    for system, event in trace.events:
        text = _text(trace, f"events/{system}/{event}/{file}")
        if text and callable(wanted) and wanted(text):
            if first:
                print(f"\n{label}:")
                first = False
            print(f'  {system}:{event} "{text}"')


def _sizes(trace: Ftrace) -> None:
    text = _text(trace, "buffer_size_kb")
    if not text or "expanded" in text:
        return
    if text == "X":
        print()
        for cpu in trace.cpus:
            print(f"CPU {cpu} buffer size (kb): {_text(trace, f'per_cpu/cpu{cpu}/buffer_size_kb')}")
    else:
        print(f"\nBuffer size in kilobytes (per cpu):\n   {text}")
    print(f"\nBuffer total size in kilobytes:\n   {_text(trace, 'buffer_total_size_kb')}")


def _cpumask(trace: Ftrace) -> None:
    text = _text(trace, "tracing_cpumask")
    try:
        mask = int(text.replace(",", ""), 16)
    except ValueError:
        return
    if any(not mask >> cpu & 1 for cpu in cpus_possible(trace.kernel)):
        print(f"\nCPU mask: {text}")
