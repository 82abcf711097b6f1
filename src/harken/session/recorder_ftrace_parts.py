"""What a recording needs beside the records: formats, symbols, names of tasks, the machine; taken from a live tracefs."""

from __future__ import annotations

import struct
import sys

from ..base.errors import KernelError
from ..formats import trace_dat_layout as layout
from ..formats.trace_dat_parts import Parts
from ..kernel.cpus import cpus_possible
from ..kernel.identity import uname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..kernel.kernel import Kernel
    from ..kernel.tracefs import Tracefs

__all__ = (
    "collect", "kernel_symbols", "kernel_types", "shows_symbols", "saved_cmdlines", "merged_cmdlines", "saved_comms",
    "parse_comms", "task_comms", "common_options", "comm_text",
)  # fmt: skip

_LIMIT = 1 << 20
_KALLSYMS_LIMIT = 64 << 20
_NAMED = (b"%pS", b"%ps", b"%pF", b"%pf", b"%pB", b"__probe_", b"stacktrace")


def collect(
    root: Tracefs,
    events: Iterable[tuple[str, str]] | None = None,
    options: Iterable[tuple[int, bytes]] = (),
    buffer: Tracefs | None = None,
    symbols: bool = True,
) -> Parts:
    """The parts of a recording.

    Args:
        events: (system, event) of those whose formats are kept; None for all.
        options: added to those that every file has.
        buffer: the instance whose clock the recording has; default: the top one.
        symbols: whether the kernel's symbols are in it even if no format of ``events`` shows any (the kernel takes half of all the time
            that a short recording costs to list its 100,000).

    Raises:
        KernelError: tracefs cannot be read.
    """
    kernel = root.kernel
    read = kernel.read
    groups: dict[str, list[bytes]] = {}
    for system, event in root.events() if events is None else events:
        try:
            groups.setdefault(system, []).append(read(root.path(f"events/{system}/{event}/format"), _LIMIT))
        except OSError:  # a dynamic event may vanish at any moment
            continue
    own = groups.pop("ftrace", None)
    if own is None or events is not None:
        own = []
        for name in sorted(kernel.listdir(root.path("events/ftrace"))):
            try:
                own.append(read(root.path(f"events/ftrace/{name}/format"), _LIMIT))
            except OSError:
                continue
    return Parts(
        root.read("events/header_page", _LIMIT).encode(),
        root.read("events/header_event", _LIMIT).encode(),
        tuple(own),
        tuple((system, tuple(formats)) for system, formats in groups.items()),
        kernel_symbols(kernel) if symbols or shows_symbols(text for formats in groups.values() for text in formats) else b"",
        _read(kernel, root.path("printk_formats"), 16 << 20),
        _read(kernel, root.path("saved_cmdlines"), 16 << 20),
        (*common_options(buffer or root), *options),
        max(cpus_possible(kernel)) + 1,
        "<" if sys.byteorder == "little" else ">",
        struct.calcsize("@l"),
        _page_size(),
    )


def kernel_symbols(kernel: Kernel) -> bytes:
    """The text of ``/proc/kallsyms``."""
    return _read(kernel, "/proc/kallsyms", _KALLSYMS_LIMIT)


def kernel_types(kernel: Kernel) -> bytes:
    """The kernel's BTF, which names the arguments of functions; b"" if it has none."""
    return _read(kernel, "/sys/kernel/btf/vmlinux", 64 << 20)


def shows_symbols(formats: Iterable[bytes]) -> bool:
    """Whether any of these events is printed with the name of an address in the kernel.

    Those of probes have an address that the kernel's own text names, although their formats do not say so.

    Example:
        >>> shows_symbols([b'print fmt: "call_site=%pS", (void *)REC->call_site']), shows_symbols([b'print fmt: "ip=%pI4 %p", REC->a'])
        (True, False)
    """
    return any(mark in text for text in formats for mark in _NAMED)


def _page_size() -> int:
    import os

    return os.sysconf("SC_PAGE_SIZE")


def _read(kernel: Kernel, path: str, limit: int) -> bytes:
    try:
        return kernel.read(path, limit)
    except OSError:
        return b""


def common_options(root: Tracefs) -> list[tuple[int, bytes]]:
    """Options that every recording has: clock (of the instance ``root``), machine, program, identity."""
    from .. import __version__

    about = uname(root.kernel)
    try:
        clock = root.read("trace_clock", 4096)
    except KernelError:
        clock = "[local]\n"
    return [
        (layout.TRACECLOCK, clock.encode() + b"\0"),
        (layout.UNAME, f"{about.system} {about.node} {about.release} {about.machine}\0".encode("utf-8", "surrogateescape")),
        (layout.VERSION, f"harken {__version__}\0".encode()),
        (layout.TRACEID, _identity()),
    ]


def _identity() -> bytes:
    import os

    return os.urandom(8)


def saved_cmdlines(root: Tracefs) -> bytes:
    """The text of ``saved_cmdlines``: names of tasks by PID as the kernel has saved them while it traced."""
    return _read(root.kernel, root.path("saved_cmdlines"), 16 << 20)


def saved_comms(root: Tracefs) -> dict[int, str]:
    """Names of tasks by PID as the kernel has saved them while it traced."""
    return parse_comms(saved_cmdlines(root))


def merged_cmdlines(old: bytes, new: bytes) -> bytes:
    """The text of ``new``, and of ``old`` the names of those tasks that are no longer in it; there may be thousands of lines.

    Example:
        >>> merged_cmdlines(b"1 init\\n7 sh\\n8 cat\\n", b"1 init\\n7 ls\\n")
        b'8 cat\\n1 init\\n7 ls\\n'
    """
    # the kernel replaces lines that are side by side: what comes before and behind them is the same in both
    start = old.rfind(b"\n", 0, _most(lambda size: old.startswith(new[:size]), min(len(old), len(new)))) + 1
    size = _most(lambda size: old.endswith(new[len(new) - size :]), min(len(old), len(new)) - start)
    size = len(old) - (old.find(b"\n", len(old) - size) + 1 or len(old))  # without the rest of a line
    have = set(new[start : len(new) - size].split(b"\n"))
    gone = [line for line in old[start : len(old) - size].split(b"\n") if line not in have]
    if not gone:
        return new
    pids = [line.partition(b" ")[0] for line in gone]
    if len(gone) > 200:  # few are looked for in the text, which is not taken apart for them
        named = {line.partition(b" ")[0] for line in new.split(b"\n")}
        kept = [line for line, pid in zip(gone, pids) if pid not in named]
    else:
        text = b"\n" + new
        kept = [line for line, pid in zip(gone, pids) if b"\n%b " % pid not in text]
    return b"\n".join([*kept, new])


def _most(holds: Callable[[int], bool], most: int) -> int:
    """The largest number up to ``most`` for which something holds that holds for all smaller ones."""
    least = 0
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if holds(middle) else (least, middle - 1)
    return least


def parse_comms(data: bytes) -> dict[int, str]:
    """Names of tasks by PID.

    Example:
        >>> parse_comms(b"1 init\\n4711 kworker/0:1 x\\n")
        {1: 'init', 4711: 'kworker/0:1 x'}
    """
    found: dict[int, str] = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        pid, space, comm = line.partition(" ")
        if space and pid.isdigit():
            found[int(pid)] = comm
    return found


def task_comms(kernel: Kernel, pids: Iterable[int]) -> dict[int, str]:
    """Names of those tasks that still run."""
    from ..kernel.procfs_process import comm

    return {pid: name for pid in pids if (name := comm(kernel, pid))}


def comm_text(comms: dict[int, str]) -> bytes:
    """The text of ``saved_cmdlines``."""
    return "".join([f"{pid} {name}\n" for pid, name in comms.items()]).encode("utf-8", "surrogateescape")


def process_map(kernel: Kernel, pids: Iterable[int]) -> dict[int, tuple[str, list[tuple[int, int, str]]]]:
    """What processes have mapped of files with code: PID -> (command, [(start, end, path), ...])."""
    from ..kernel.procfs_process import comm, mappings

    found = {}
    for pid in pids:
        places = [
            (place.start, place.end, place.path) for place in mappings(kernel, pid) if place.path.startswith("/") and "x" in place.perms
        ]
        if places:
            found[pid] = (comm(kernel, pid), places)
    return found


def process_map_option(maps: dict[int, tuple[str, list[tuple[int, int, str]]]]) -> bytes:
    """The PROCMAPS option: per process a line "PID COUNT COMMAND", then a line "START END PATH" for each mapping, hexadecimal."""
    lines = []
    for pid, (command, places) in maps.items():
        lines.append(f"{pid:x} {len(places):x} {command}")
        lines += [f"{start:x} {end:x} {path}" for start, end, path in places]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape") + b"\0"


def tsc_option(kernel: Kernel) -> bytes:
    """The TSC2NSEC option: how perf's page turns the time stamp counter into nanoseconds (struct perf_event_mmap_page).

    Raises:
        KernelError: perf does not open, or the machine has no such counter.
    """
    from ..abi.perf_event import PERF_COUNT_SW_DUMMY, PERF_TYPE_SOFTWARE
    from ..kernel.perf_event import Attr, open_event

    event = open_event(kernel, Attr(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_DUMMY), pid=0)
    try:
        page = kernel.mmap(event.fd, _page_size())
        try:
            # version, compat, lock, index, offset, enabled, running, capabilities, pmc_width, time_shift, time_mult, time_offset, time_zero
            shift, mult = struct.unpack_from("=HI", page, 50)
            zero = struct.unpack_from("=Q", page, 64)[0]
        finally:
            page.close()
    finally:
        event.close()
    if not mult:
        raise KernelError("perf does not tell how to convert the time stamp counter here", hint="choose another clock: -C mono")
    return struct.pack("=IIQ", mult, shift, zero)
