"""Tracers that a kernel may lack, and why it does.

Which tracers there are is decided when a kernel is built; ``available_tracers`` lists them, and this module explains the rest.  The
tracers of latencies are seldom built in, since most of them cost time even when they are off: among Debian's kernels only the real-time
flavours have those of waking (wakeup, wakeup_rt, wakeup_dl), hwlat, osnoise and timerlat, and none has irqsoff and preemptoff.
"""

from __future__ import annotations

from ..base.errors import KernelError, ProbeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .ftrace import Ftrace
    from .tracefs import Tracefs

__all__ = ("LATENCY_TRACERS", "exclusive", "refuse_used", "tracer_missing")

#: Tracers that keep the longest latency only: their ``trace`` file shows that, and their pages are of no use (``use_max_tr``).
LATENCY_TRACERS = frozenset(("wakeup", "wakeup_rt", "wakeup_dl", "irqsoff", "preemptoff", "preemptirqsoff"))

_WAKING = "-e sched_wakeup -e sched_switch measures it from events: 'report -w' shows the latencies"
#: Tracer -> (the options that it needs, kernel/trace/Kconfig; what else can serve, "" if nothing can).
_TRACERS = {
    "function": (("CONFIG_FUNCTION_TRACER",), ""),
    "function_graph": (("CONFIG_FUNCTION_GRAPH_TRACER",), "'harken graph' makes graphs of chosen functions without it"),
    "wakeup": (("CONFIG_SCHED_TRACER",), _WAKING),
    "wakeup_rt": (("CONFIG_SCHED_TRACER",), _WAKING),
    "wakeup_dl": (("CONFIG_SCHED_TRACER",), _WAKING),
    "irqsoff": (("CONFIG_IRQSOFF_TRACER",), ""),
    "preemptoff": (("CONFIG_PREEMPT_TRACER",), ""),
    "preemptirqsoff": (("CONFIG_IRQSOFF_TRACER", "CONFIG_PREEMPT_TRACER"), ""),
    "hwlat": (("CONFIG_HWLAT_TRACER",), ""),
    "osnoise": (("CONFIG_OSNOISE_TRACER",), ""),
    "timerlat": (("CONFIG_TIMERLAT_TRACER",), ""),
    "blk": (("CONFIG_BLK_DEV_IO_TRACE",), "-e block records the events of block devices"),
    "mmiotrace": (("CONFIG_MMIOTRACE",), ""),
    "branch": (("CONFIG_BRANCH_TRACER",), ""),
}


#: Options of the function tracer, which has a callback for each set of them that may be on at once (select_trace_function in
#: kernel/trace/trace_functions.c): none for arguments with one of the others.
_ARGUMENTS, _OTHERS = "func-args", ("func_stack_trace", "func-no-repeats")


def exclusive(tracefs: Tracefs, name: str) -> str:
    """Which options of a buffer exclude each other, if that may be why one is refused; else "".

    Args:
        name: the option that was to be switched on, or "current_tracer".
    """
    on = [option for option in (_ARGUMENTS, *_OTHERS) if option == name or _is_on(tracefs, option)]
    if len(on) < 2 or on[0] != _ARGUMENTS or name not in (*on, "current_tracer"):
        return ""
    return f"the function tracer takes {_ARGUMENTS} neither with func_stack_trace (--func-stack) nor with func-no-repeats"


def _is_on(tracefs: Tracefs, option: str) -> bool:
    """Options of tracers that are not chosen are in files only."""
    try:
        return tracefs.read(f"options/{option}").strip() == "1"
    except KernelError:  # this kernel has none of that name
        return False


def refuse_used(top: Ftrace, wanted: str) -> None:
    """Leaves a top buffer alone in which somebody else's tracer is running, for who uses it only because this kernel has no other for it.

    Args:
        wanted: the tracer, or "".

    Raises:
        ProbeError: there is one running.
    """
    if top.tracer != "nop" and top.running:
        raise ProbeError(
            f"the top buffer is in use: its tracer is {top.tracer!r}",
            f"this kernel has {wanted or 'what you ask for'} in the top buffer only; 'harken trace-cmd reset' frees it if nobody needs it",
        )


def tracer_missing(root: Tracefs, name: str, have: Sequence[str], instance: bool) -> ProbeError:
    """The error that says why a tracer is not among those that a buffer offers.

    Args:
        root: the top directory.
        have: what the buffer offers.
        instance: whether the buffer is an instance.
    """
    if instance and name in root.tracers():
        return ProbeError(f"the tracer {name!r} works in the top buffer only", "this kernel does not offer it to instances")
    others = f"available tracers: {' '.join(have)}"
    if name not in _TRACERS:
        from .ftrace_events import near_names

        near = near_names(list(dict.fromkeys([*have, *_TRACERS])), name)
        return ProbeError(f"there is no tracer {name!r}", (f"did you mean {' or '.join(near)}? " if near else "") + others)
    from .config import config_of

    options, instead = _TRACERS[name]
    config = config_of(root.kernel)
    off = [option for option in options if config.enabled(option) is False]
    if off:
        why = f"this kernel was built without it ({' and '.join(off)} {'is' if len(off) == 1 else 'are'} not set)"
    elif config.source:
        why = f"this kernel has {' and '.join(options)}, but its boot options or a policy keep it away"
    else:
        why = f"this kernel was built without it (it needs {' and '.join(options)})"
    return ProbeError(f"the tracer {name!r} is not available: {why}", others + (f"; {instead}" if instead else ""))
