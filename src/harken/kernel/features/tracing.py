"""Questions about tracefs: is it there, which tracers may be used, what else is built in.

What would disturb other users of tracefs is tried in a private instance that is removed at once.
"""

from __future__ import annotations

import errno

from ...base.errors import KernelError
from .asking import Asking, yes
from .attach import Victim
from .options import OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..tracefs import Tracefs
    from ..tracefs_instances import Instance
    from . import Answer

__all__ = ("PROBES",)

_ROOT = ("dac_override", "sys_admin")
#: A function that exists in all kernels with what it belongs to and hardly ever runs, for trying the function tracer.
_QUIET = ("bpf_fentry_test1", "kernel_restart", "do_syslog")


def _tracefs(asking: Asking, _name: str) -> Answer:
    try:
        found = asking.tracefs
    except KernelError as error:
        tried = error.call or "open(/sys/kernel/tracing)"
        if error.errno == errno.EACCES:  # a matter of the directory's owner and mode, not of capabilities by name
            from . import Answer

            return Answer("no", f"{tried} = EACCES: tracefs is closed to this user", error.errno, tried, "capability:dac_read_search")
        return asking.no(tried, error.errno or errno.ENOENT, capabilities=("sys_admin",), options=OPTIONS["tracefs"])
    return yes("mount -t tracefs" if found.note else found.root, "not mounted; harken mounts it when it is needed" if found.note else "")


def _within(function: Callable[[Asking, Tracefs, str], Answer]) -> Callable[[Asking, str], Answer]:
    """A question about a readable tracefs."""

    def ask(asking: Asking, name: str) -> Answer:
        missing = asking.without("tracefs")
        if missing is not None:
            return missing
        try:
            return function(asking, asking.tracefs, name)
        except KernelError as error:
            return asking.no(error.call or "tracefs", error.errno or errno.EIO, capabilities=_ROOT)

    return ask


def _file(path: str) -> Callable[[Asking, Tracefs, str], Answer]:
    """A feature that is there when a file is."""

    def ask(asking: Asking, tracefs: Tracefs, name: str) -> Answer:
        if tracefs.exists(path):
            return yes(path)
        return asking.no(f"open({path})", errno.ENOENT, capabilities=_ROOT, options=OPTIONS.get(name, ()))

    return ask


def _readme(text: str, what: str) -> Callable[[Asking, Tracefs, str], Answer]:
    """A feature that tracefs' own README names when the kernel was built with it."""

    def ask(asking: Asking, tracefs: Tracefs, name: str) -> Answer:
        if text in tracefs.read("README", 1 << 20):
            return yes("README")
        missing = asking.no(f"read(README), which names no {what}", errno.ENOENT, options=OPTIONS.get(name, ()))
        return missing.replace(errno=0, reason=missing.reason.replace(" = ENOENT", ""))

    return ask


def _instances(asking: Asking, tracefs: Tracefs, _name: str) -> Answer:
    return _trial(asking, tracefs)[0]


def _function_tracer(asking: Asking, tracefs: Tracefs, _name: str) -> Answer:
    return _trial(asking, tracefs)[1]


def _trial(asking: Asking, tracefs: Tracefs) -> tuple[Answer, Answer]:
    """Makes a private instance and really switches the function tracer on in it, for one function that never runs."""

    def ask() -> tuple[Answer, Answer]:
        from ..tracefs_instances import Instance

        try:
            private = Instance(tracefs, "feature")
        except KernelError as error:
            refused = asking.no("mkdir(instances/...)", error.errno, capabilities=_ROOT)
            return refused, refused
        with private:
            return yes("mkdir(instances/...)"), _try_function(asking, tracefs, private)

    return asking.once("instance", ask)  # type: ignore[no-any-return]


def _try_function(asking: Asking, tracefs: Tracefs, private: Instance) -> Answer:
    options = OPTIONS["function_tracer"]
    if "function" not in tracefs.tracers():
        return asking.no("available_tracers names no function", errno.ENOENT, options=options[:1])
    for function in _QUIET:
        try:
            private.settings.set("set_ftrace_filter", function)
            break
        except KernelError as error:
            if error.errno != errno.EINVAL:
                return asking.no("write(set_ftrace_filter)", error.errno, capabilities=_ROOT, options=options)
    else:  # a tracer without a filter hooks every function: that is not for a question
        return asking.no("write(set_ftrace_filter)", errno.EINVAL, capabilities=_ROOT, options=options)
    try:
        private.settings.set("current_tracer", "function")
    except KernelError as error:
        return asking.no("write(current_tracer, function)", error.errno, capabilities=_ROOT, options=options)
    return yes("current_tracer = function for one function in a private instance")


def _function_graph(asking: Asking, tracefs: Tracefs, _name: str) -> Answer:
    """Only the main buffer has this tracer on many kernels, so it is not switched on: it must be listed and its filter must open."""
    options = OPTIONS["function_graph"]
    if "function_graph" not in tracefs.tracers():
        return asking.no("available_tracers names no function_graph", errno.ENOENT, options=options)
    try:
        tracefs.read("set_graph_function")
    except KernelError as error:
        return asking.no("open(set_graph_function)", error.errno, capabilities=_ROOT, options=options)
    return yes("available_tracers, set_graph_function")


def _filter_functions(asking: Asking, tracefs: Tracefs, _name: str) -> Answer:
    try:
        tracefs.read("available_filter_functions", 256)
    except KernelError as error:
        return asking.no("open(available_filter_functions)", error.errno, capabilities=_ROOT, options=OPTIONS["filter_functions"])
    return yes("available_filter_functions")


def _kprobe_tracefs(asking: Asking, tracefs: Tracefs, _name: str) -> Answer:
    from ..tracefs_dynamic import add, kprobe_line, remove
    from ..tracefs_owner import owner_name

    options = OPTIONS["kprobe_tracefs"]
    if not tracefs.exists("kprobe_events"):
        return asking.no("open(kprobe_events)", errno.ENOENT, capabilities=_ROOT, options=options)
    number = errno.ENOENT
    for function in ("bpf_fentry_test1", "kernel_restart", "vfs_fsync"):
        try:
            event = add(tracefs, kprobe_line(owner_name(asking.kernel), "feature", function))
        except KernelError as error:
            number = error.errno
            if number in (errno.ENOENT, errno.EINVAL):
                continue
            break
        remove(tracefs, event)
        return yes(f"write(kprobe_events, {function})")
    return asking.no("write(kprobe_events)", number, capabilities=_ROOT, options=options)


def _uprobe_tracefs(asking: Asking, tracefs: Tracefs, _name: str) -> Answer:
    from ..tracefs_dynamic import add, remove, uprobe_line
    from ..tracefs_owner import owner_name

    options = OPTIONS["uprobe_tracefs"]
    if not tracefs.exists("uprobe_events"):
        return asking.no("open(uprobe_events)", errno.ENOENT, capabilities=_ROOT, options=options)
    with Victim(asking) as victim:
        try:
            event = add(tracefs, uprobe_line(owner_name(asking.kernel), "feature", victim.path, 0))
        except KernelError as error:
            return asking.no("write(uprobe_events)", error.errno, capabilities=_ROOT, options=options)
        remove(tracefs, event)
    return yes("write(uprobe_events)")


def _event_probes(asking: Asking, tracefs: Tracefs, _name: str) -> Answer:
    from ..tracefs_owner import owner_name

    options = OPTIONS["event_probes"]
    event = f"{owner_name(asking.kernel)}/eprobe"
    try:
        tracefs.write("dynamic_events", f"e:{event} sched/sched_process_exit\n", append=True)
    except KernelError as error:
        return asking.no("write(dynamic_events)", error.errno, capabilities=_ROOT, options=options)
    tracefs.write("dynamic_events", f"-:{event}\n", append=True)
    return yes("write(dynamic_events)")


def _cgroup2(asking: Asking, _name: str) -> Answer:
    from ..mounts import mount_list, mount_of

    found = mount_of(mount_list(asking.kernel), "cgroup2")
    if found is not None:
        return yes(found.target)
    try:
        known = b"\tcgroup2\n" in asking.kernel.read("/proc/filesystems", 1 << 16)
    except OSError:
        known = False
    from . import Answer

    if known:
        return Answer("no", "no cgroup2 file system is mounted", errno.ENOENT, "/proc/self/mounts", "mount:cgroup2")
    return asking.no("/proc/filesystems names no cgroup2", errno.ENODEV, capabilities=(), options=OPTIONS["cgroup2"])


PROBES: dict[str, Callable[[Asking, str], Answer]] = {
    "tracefs": _tracefs,
    "instances": _within(_instances),
    "function_tracer": _within(_function_tracer),
    "function_graph": _within(_function_graph),
    "filter_functions": _within(_filter_functions),
    "kprobe_tracefs": _within(_kprobe_tracefs),
    "uprobe_tracefs": _within(_uprobe_tracefs),
    "kprobe_args": _within(_readme("<argname>[->field", "BTF arguments")),
    "fprobe_events": _within(_readme("f[:[<group>/]", "fprobe events")),
    "event_probes": _within(_event_probes),
    "hist_triggers": _within(_readme("hist:keys=", "histograms")),
    "synthetic_events": _within(_file("synthetic_events")),
    "snapshot": _within(_file("snapshot")),
    "stack_tracer": _within(_file("stack_trace")),
    "user_events": _within(_file("user_events_data")),
    "syscall_tracepoints": _within(_file("events/syscalls")),
    "cgroup2": _cgroup2,
}
