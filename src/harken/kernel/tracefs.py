"""tracefs: finding it, mounting it, and reading what it lists.

tracefs is at ``/sys/kernel/tracing`` and, through debugfs, at ``/sys/kernel/debug/tracing``.  Many machines mount neither at boot.
``find`` looks at both and in ``/proc/self/mounts``; if there is none it mounts tracefs (or debugfs, where the kernel is too old for a
tracefs of its own), or, where there is no directory to mount it on, makes a private mount; ``Tracefs.note`` then says so.

``Tracefs`` reads lists: tracers, events, functions, formats.  Settings are changed through ``kernel.tracefs_instances`` (private
buffers; every change is undone) and probes are defined through ``kernel.tracefs_dynamic``.

Refusals become sentences: who is not root, a lockdown, a container, or a tracer that is not built in.
"""

from __future__ import annotations

import errno
import os

from ..base.errors import KernelError
from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.diagnostics import Diagnostic
    from .kernel import Kernel
    from .mounts import Detached

__all__ = ("MOUNT_POINTS", "Tracefs", "LoggedError", "find", "found_mounts", "parse_functions", "parse_error_log")

#: Where tracefs is expected, the better place first.
MOUNT_POINTS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")

#: Private mounts that live as long as the process (one at most, unless a program asks again and again).
_kept: list[Detached] = []

_FUNCTIONS_LIMIT = 64 << 20
_LIST_LIMIT = 16 << 20
_FORMAT_LIMIT = 1 << 20


class LoggedError(Record):
    """One entry of ``error_log``: the kernel's reason, the command it refused and where in it (a byte offset, -1 if not said)."""

    subsystem: str
    reason: str
    command: str
    position: int


def found_mounts(kernel: Kernel) -> list[str]:
    """All places where tracefs can be reached through a mount, mounted but unreadable ones too; the usual places first."""
    from .mounts import mount_list

    found = []
    for mount in mount_list(kernel):
        if mount.fstype == "tracefs":
            found.append(mount.target)
        elif mount.fstype == "debugfs":
            found.append(mount.target.rstrip("/") + "/tracing")  # debugfs mounts tracefs there when it is looked at
    found = list(dict.fromkeys(found))
    return sorted(found, key=lambda path: MOUNT_POINTS.index(path) if path in MOUNT_POINTS else len(MOUNT_POINTS))


def find(kernel: Kernel, mount: bool = True) -> Tracefs:
    """The machine's tracefs.

    Args:
        mount: mount it if it is not mounted anywhere.

    Raises:
        KernelError: it is mounted but this user may not read it, or it is not mounted and may not (or must not) be.
    """
    for root in MOUNT_POINTS[:1]:  # the usual case without reading the list of mounts
        if kernel.exists(root + "/trace"):
            return Tracefs(kernel, root)
    mounted = found_mounts(kernel)
    for root in mounted:
        if kernel.exists(root + "/trace"):
            return Tracefs(kernel, root)
    for root in mounted:
        try:
            kernel.listdir(root)
        except PermissionError as error:
            raise KernelError(
                f"tracefs is mounted at {root} but this user may not read it",
                call=f'open("{root}")',
                errno=error.errno or errno.EACCES,
                hint=f"run as root, or let root open it to a group: mount -o remount,gid=GROUP {root}",
            ) from None
        except OSError:
            continue
    if not mount:
        raise KernelError(
            "tracefs is not mounted",
            call=f'access("{MOUNT_POINTS[0]}/trace")',
            errno=errno.ENOENT,
            hint=f"mount it: mount -t tracefs nodev {MOUNT_POINTS[0]}",
        )
    return _mounted(kernel)


def _mounted(kernel: Kernel) -> Tracefs:
    from .mounts import detached, mount_filesystem

    if _kept and kernel.exists(_kept[0].path + "/trace"):
        return Tracefs(kernel, _kept[0].path)
    first: KernelError | None = None
    for fstype, target, root in (("tracefs", MOUNT_POINTS[0], MOUNT_POINTS[0]), ("debugfs", "/sys/kernel/debug", MOUNT_POINTS[1])):
        try:
            mount_filesystem(kernel, fstype, target)
        except KernelError as error:
            first = first or error
            continue
        if kernel.exists(root + "/trace"):
            return Tracefs(kernel, root, f"tracefs was not mounted: mounted {fstype} at {target}")
    number = first.errno if first else errno.ENOENT
    if number == errno.ENOENT:  # no directory to mount it on: /sys is not there or hidden
        try:
            place = detached(kernel, "tracefs")
        except KernelError:
            pass
        else:
            _kept.append(place)
            return Tracefs(kernel, place.path, f"{MOUNT_POINTS[0]} does not exist: using a private mount of tracefs")
    from .procfs import container

    if number == errno.EPERM:
        kind = container(kernel)
        if kind:
            hint = (
                f"this is a container ({kind}): mount it on the host and pass it in (-v {MOUNT_POINTS[0]}:{MOUNT_POINTS[0]}), "
                "or give the container CAP_SYS_ADMIN"
            )
        else:
            hint = f"run as root, or let root mount it: mount -t tracefs nodev {MOUNT_POINTS[0]}"
    elif number in (errno.ENODEV, errno.ENOENT):
        hint = "this kernel was built without tracing (CONFIG_TRACING); boot one that has it"
    else:
        hint = f"try by hand: mount -t tracefs nodev {MOUNT_POINTS[0]}"
    raise KernelError(
        f"tracefs is not mounted and cannot be: {os.strerror(number)}",
        call=first.call if first else "mount",
        errno=number,
        hint=hint,
    )


def parse_functions(text: str) -> list[tuple[str, str]]:
    """(function, module or "") pairs of ``available_filter_functions``, in order.

    Example:
        >>> parse_functions("vfs_read\\next4_sync_fs [ext4]\\n__ftrace_invalid_address___12\\n")
        [('vfs_read', ''), ('ext4_sync_fs', 'ext4')]
    """
    found = []
    for line in text.split("\n"):
        if "[" in line:
            name, _, rest = line.partition(" ")
            found.append((name, rest.strip(" \t[]")))
        elif line and not line.startswith("__ftrace_invalid_address__"):
            found.append((line.partition(" ")[0], ""))
    return found


def parse_error_log(text: str) -> list[LoggedError]:
    r"""Entries of ``error_log`` (Linux 5.2), oldest first.

    Example:
        >>> parse_error_log("[ 12.5] uprobes: error: Invalid offset\n  Command: p:a /bin/ls:zz\n                       ^\n")
        [LoggedError(subsystem='uprobes', reason='Invalid offset', command='p:a /bin/ls:zz', position=12)]
    """
    found: list[LoggedError] = []
    subsystem = reason = command = ""
    for line in text.split("\n"):
        if line.startswith("[") and "error: " in line:
            if reason:
                found.append(LoggedError(subsystem, reason, command, -1))
            head, _, reason = line.partition("error: " if ": error: " not in line else ": error: ")
            subsystem, command = head.partition("]")[2].strip().rstrip(":"), ""
        elif line.startswith("  Command: ") and reason:
            command = line[11:]
        elif reason and line.strip() == "^":
            found.append(LoggedError(subsystem, reason, command, line.index("^") - 11))
            reason = ""
    if reason:
        found.append(LoggedError(subsystem, reason, command, -1))
    return found


class Tracefs:
    """A readable tracefs (or one of its instances).

    ``root`` is its directory; ``note`` tells what ``find`` had to do, "" for nothing.
    """

    def __init__(self, kernel: Kernel, root: str, note: str = "") -> None:
        self.kernel = kernel
        self.root = root
        self.note = note

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        return self.kernel.exists(self.path(name))

    def read(self, name: str, limit: int = _LIST_LIMIT) -> str:
        """The text of a file below the root.

        Raises:
            KernelError: with a reason and a hint.
        """
        try:
            return self.kernel.read(self.path(name), limit).decode("utf-8", "surrogateescape")
        except OSError as error:
            raise self.refused(name, error, "read") from None

    def write(self, name: str, text: str, append: bool = False) -> None:
        """Writes a command or setting in one piece.

        Args:
            append: keep what the file holds; without it files that hold lists (filters, probes) are emptied first.

        Raises:
            KernelError: with the kernel's own reason from ``error_log`` where it left one.
        """
        try:
            self.kernel.write(self.path(name), text.encode("utf-8", "surrogateescape"), append)
        except OSError as error:
            raise self.refused(name, error, "write", text) from None

    def refused(self, name: str, error: OSError, verb: str, text: str = "") -> KernelError:
        """The KernelError for an OSError on a file here."""
        from .mounts import errno_name

        number = error.errno or errno.EIO
        path = self.path(name)
        hint = ""
        reason = error.strerror or os.strerror(number)  # a short write has words of its own
        if number == errno.EACCES:
            hint = "run as root"
        elif number == errno.EPERM:
            from .procfs import lockdown

            state = lockdown(self.kernel).state
            locked = f"the kernel is locked down ({state})" if state in ("integrity", "confidentiality") else "the kernel's build"
            hint = f"{locked} or a security module forbids it; 'harken doctor' shows what else serves"
        elif number == errno.ENOENT and not self.kernel.exists(path):
            hint = _BUILT_WITH.get(name.rpartition("/")[2], "this kernel's tracefs has no such file")
        else:
            part, hint = _MEANS.get(number, ("", ""))
            hint = hint if part in name else ""
        diagnostic = None
        if verb == "write" and (number not in (errno.EACCES, errno.EPERM) or name.endswith("/filter")):  # some wrong filters are EPERM
            logged = self.last_error(text, name.rpartition("/")[2])
            if logged is not None:
                hint = "" if number == errno.EPERM else hint
                diagnostic = _placed(name, logged, text, hint)
                reason = logged.reason[:1].lower() + logged.reason[1:]
                if logged.position >= 0:
                    word = logged.command[logged.position :].split(" ")[0]
                    reason += f" at {word!r}" if word else " at its end"
        if number == errno.EINVAL and len(text) >= 4096:
            text, hint = f"{text[:60]} ...", f"it has {len(text)} characters, and the kernel takes 4095"
        shown = f' "{text.strip()}" to' if text.strip() else " to" if verb == "write" else ""
        refusal = KernelError(
            f"cannot {verb}{shown} {path}: {reason}", call=f'{verb}("{path}") = {errno_name(number)}', errno=number, hint=hint
        )
        refusal.diagnostic = diagnostic
        return refusal

    def error_log(self) -> list[LoggedError]:
        """What the kernel said about the last refused commands; empty before Linux 5.2."""
        try:
            return parse_error_log(self.kernel.read(self.path("error_log"), 1 << 20).decode("utf-8", "surrogateescape"))
        except OSError:
            return []

    def last_error(self, command: str, file: str) -> LoggedError | None:
        """The newest entry of the log, if it is about ``command``, which was written to ``file``; only some files have errors in it."""
        dynamic, wanted = file.endswith("_events"), command.strip()
        entries = self.error_log() if wanted and (dynamic or file in ("filter", "trigger")) else []
        logged = entries[-1].command.strip() if entries else ""
        # Old kernels log the command of a dynamic event as they split it, so the beginning has to be enough.
        return entries[-1] if logged and (logged in wanted or (dynamic and wanted in logged)) else None

    def tracers(self) -> tuple[str, ...]:
        """Names of the tracers that are built in ("function_graph", "nop", ...)."""
        return tuple(self.read("available_tracers", 1 << 16).split())

    def events(self) -> list[tuple[str, str]]:
        """(category, event) of all events, in the kernel's order; dynamic events among them."""
        found = []
        for line in self.read("available_events").split("\n"):
            category, colon, name = line.partition(":")
            if colon:
                found.append((category, name))
        return found

    def has_event(self, category: str, name: str) -> bool:
        return self.exists(f"events/{category}/{name}/id")

    def event_id(self, category: str, name: str) -> int:
        """The number of an event, for perf_event_open(2).

        Raises:
            KernelError: there is no such event, or this user may not read it.
        """
        text = self._event_file(category, name, "id")
        try:
            return int(text)
        except ValueError:
            raise KernelError(f"the id of {category}:{name} is not a number: {text[:40]!r}", call="read", errno=errno.EIO) from None

    def event_format(self, category: str, name: str) -> str:
        """The text that describes an event's record (``formats.event_format`` parses it).

        Raises:
            KernelError: there is no such event, or this user may not read it.
        """
        return self._event_file(category, name, "format")

    def event_filter(self, category: str, name: str) -> str:
        """The filter that is set on an event, "" for none."""
        text = self._event_file(category, name, "filter").strip()
        return "" if text == "none" else text

    def _event_file(self, category: str, name: str, file: str) -> str:
        if "/" in category or "/" in name or category.startswith(".") or name.startswith("."):
            raise KernelError(f"no event can be called {category}:{name}", errno=errno.ENOENT)
        try:
            return self.kernel.read(self.path(f"events/{category}/{name}/{file}"), _FORMAT_LIMIT).decode("utf-8", "surrogateescape")
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise KernelError(
                    f"this kernel has no event {category}:{name}",
                    call=f'open("{self.path(f"events/{category}/{name}/{file}")}")',
                    errno=errno.ENOENT,
                    hint=f"'harken list tracepoint:{category}:*' shows what it has",
                ) from None
            raise self.refused(f"events/{category}/{name}/{file}", error, "read") from None

    def filter_functions(self) -> list[tuple[str, str]]:
        """(function, module or "") pairs of all kernel functions that ftrace can hook (kprobes on others are possible).

        Raises:
            KernelError: the kernel has no function tracing, or refuses (EPERM under some policies even for root).
        """
        return parse_functions(self.read("available_filter_functions", _FUNCTIONS_LIMIT))

    def options(self) -> dict[str, bool]:
        """Trace options and whether they are set."""
        found = {}
        for word in self.read("trace_options", 1 << 16).split():
            found[word[2:] if word.startswith("no") else word] = not word.startswith("no")
        return found

    def clocks(self) -> tuple[tuple[str, ...], str]:
        """(trace clocks, the one in use)."""
        words = self.read("trace_clock", 1 << 12).split()
        return tuple(word.strip("[]") for word in words), next((word.strip("[]") for word in words if word.startswith("[")), "")


def _placed(file: str, logged: LoggedError, text: str, hint: str) -> Diagnostic | None:
    """The kernel's reason at its place in what the user wrote; None if the kernel does not say where."""
    command = logged.command.strip()
    start = text.find(command)
    if logged.position < 0 or start < 0:
        return None
    from ..base.diagnostics import Source, error

    start += logged.position - (len(logged.command) - len(logged.command.lstrip()))
    if logged.subsystem.startswith("event filter") and logged.reason == "Field not found":
        start = text.rfind(text[:start].split()[-1], 0, start) if text[:start].split() else start  # the kernel points behind the field
    end = start
    while end < len(text) and text[end] not in " ,:=()":
        end += 1
    what = file.rpartition("/")[2]
    owner = file.rpartition("/")[0].removeprefix("events/").replace("/", ":")
    return error(logged.reason, Source(f"{what} of {owner}" if owner else what, text).span(start, end), hint)


_MEANS = {  # what is in the name of the file, and what it means there
    errno.EBUSY: ("", "somebody else uses it at the moment"), errno.ENODEV: ("", "tracing is disabled for this boot"),
    errno.ENOMEM: ("buffer_", "every CPU gets as much: ask for less"), errno.EOVERFLOW: ("cpumask", "this machine has fewer CPUs"),
}  # fmt: skip
_BUILT_WITH = {
    "available_filter_functions": "it comes with CONFIG_DYNAMIC_FTRACE",
    "set_ftrace_filter": "it comes with CONFIG_DYNAMIC_FTRACE",
    "set_graph_function": "it comes with CONFIG_FUNCTION_GRAPH_TRACER",
    "max_graph_depth": "it comes with CONFIG_FUNCTION_GRAPH_TRACER",
    "kprobe_events": "it comes with CONFIG_KPROBE_EVENTS",
    "kprobe_profile": "it comes with CONFIG_KPROBE_EVENTS",
    "uprobe_events": "it comes with CONFIG_UPROBE_EVENTS",
    "uprobe_profile": "it comes with CONFIG_UPROBE_EVENTS",
    "dynamic_events": "it came with Linux 5.0",
    "synthetic_events": "it comes with CONFIG_SYNTH_EVENTS",
    "hist": "it comes with CONFIG_HIST_TRIGGERS",
    "snapshot": "it comes with CONFIG_TRACER_SNAPSHOT",
    "error_log": "it came with Linux 5.2",
}
