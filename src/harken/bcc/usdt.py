"""User-space static markers (``bcc.USDT``): what a program, library or process has, and which of them run which functions.

::

    usdt = USDT(pid=1234)                      # or USDT(path="/usr/bin/python3")
    usdt.enable_probe("function__entry", "on_entry")
    b = BPF(text=program, usdt_contexts=[usdt])

The kernel raises a marker's semaphore while it is traced, in processes that start later too.
"""

from __future__ import annotations

import os
import sys

from ..base.errors import HarkenError
from .names import Names, catalogue
from .utils import as_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..formats.stapsdt import Marker, Operand
    from ..probes.model import Probe

__all__ = ("USDT", "USDTException", "USDTProbe", "USDTProbeArgument", "USDTProbeLocation", "guarded_marker", "marker_probe")

#: bits of ``USDTProbeArgument.valid``: which of its attributes are there
CONSTANT, DEREF_OFFSET, DEREF_IDENT, BASE_REGISTER_NAME, INDEX_REGISTER_NAME, SCALE = (1 << bit for bit in range(6))
#: 64-bit registers of x86 whose names in struct pt_regs have no "r"
_SHORT = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "rip")


#: how the files are called that may be built with markers of languages and databases
_RUNTIMES = (
    "java", "libjvm", "libnode", "libperl", "libpython", "libruby", "libtcl", "mariadbd", "mysqld", "node", "perl", "php", "postgres",
    "python", "ruby", "tclsh", "wish",
)  # fmt: skip
#: markers that tools ask for beside those, and where they would be
_LIBRARIES = {"pthread_start": ("libc.so", "libc-", "libpthread")}
#: (file, address) -> the marker with a semaphore, of those that `USDT.enumerate_active_probes` has named
_named: dict[tuple[str, int], Marker] = {}


class USDTException(Exception):
    """A marker, a file or a process is not there."""


def _register(name: str) -> bytes:
    return (name[1:] if name in _SHORT else name).encode()


class USDTProbeArgument:
    """Where an argument is found: ``valid`` tells which of ``constant``, ``deref_offset``, ``deref_ident``, ``base_register_name``,
    ``index_register_name`` and ``scale`` exist."""

    constant: int
    deref_offset: int
    deref_ident: bytes
    base_register_name: bytes
    index_register_name: bytes
    scale: int

    def __init__(self, operand: Operand) -> None:
        self.operand = operand
        self.signed, self.size = operand.signed, operand.size
        self.valid = 0
        if operand.kind == "const":
            self.valid, self.constant = CONSTANT, operand.value
        elif operand.kind in ("register", "memory"):
            if operand.register:
                self.valid |= BASE_REGISTER_NAME
                self.base_register_name = _register(operand.register)
            if operand.kind == "memory":
                self.valid |= DEREF_OFFSET
                self.deref_offset = operand.value
            if operand.symbol:
                self.valid |= DEREF_IDENT
                self.deref_ident = operand.symbol.encode()
            if operand.index:
                self.valid |= INDEX_REGISTER_NAME | SCALE
                self.index_register_name, self.scale = _register(operand.index), operand.scale

    def __str__(self) -> str:
        return f"{self.size} {'signed  ' if self.signed else 'unsigned'} bytes @ {self._place()}"

    def _place(self) -> str:
        valid = self.valid
        if valid & CONSTANT:
            return str(self.constant)
        base = self.base_register_name.decode() if valid & BASE_REGISTER_NAME else ""
        if valid & DEREF_OFFSET:
            sign, distance = "+-"[self.deref_offset < 0], abs(self.deref_offset)
            if valid & DEREF_IDENT:
                return f"*(&{self.deref_ident.decode()} {sign} {distance})"
            index = f" + {self.index_register_name.decode()} * {self.scale}" if valid & INDEX_REGISTER_NAME else ""
            return f"*({base} {sign} {distance}{index})"
        return base or f"unrecognized argument format: {self.operand.place}"


class USDTProbeLocation:
    """One place of a marker; ``address`` is the file's own."""

    def __init__(self, probe: USDTProbe, index: int) -> None:
        self.probe, self.index = probe, index
        self.marker = probe.markers[index]
        self.num_arguments = probe.num_arguments
        self.address = self.marker.address
        self.bin_path = probe.bin_path

    def __str__(self) -> str:
        return f"{self.bin_path.decode()} 0x{self.address:x}"

    def get_argument(self, index: int) -> USDTProbeArgument:
        """An argument, the first has index 0; raises USDTException if there are not so many."""
        try:
            return USDTProbeArgument(self.marker.operands[index])
        except (IndexError, HarkenError):
            raise USDTException(f"error retrieving probe argument {index} location {self.index}") from None


class USDTProbe:
    """A marker of one file, with all its places."""

    def __init__(self, path: str, markers: list[Marker]) -> None:
        first = markers[0]
        self.markers = markers
        self.path = path
        self.provider, self.name, self.bin_path = first.provider.encode(), first.name.encode(), os.fsencode(path)
        self.semaphore = first.semaphore
        self.num_locations = len(markers)
        self.num_arguments = len(_operands(first))

    def __str__(self) -> str:
        return f"{self.short_name()} [sema 0x{self.semaphore:x}]"

    def short_name(self) -> str:
        """ "provider:name"."""
        return f"{self.provider.decode()}:{self.name.decode()}"

    def get_location(self, index: int) -> USDTProbeLocation:
        """A place; raises USDTException if there are not so many."""
        if not 0 <= index < self.num_locations:
            raise USDTException(f"error retrieving probe location {index}")
        return USDTProbeLocation(self, index)


def _arguments(path: str, marker: Marker) -> str:
    """A marker's argument string, with variables (``-4@NBuffers(%rip)``) as distances from the marker instead of names."""
    from ..formats.stapsdt import tokens

    operands = _operands(marker)
    if marker.machine != "x86_64" or not any(operand.symbol for operand in operands):
        return marker.arguments
    words = tokens(marker.arguments)
    for number, operand in enumerate(operands):
        if operand.kind == "memory" and operand.symbol and not operand.register and not operand.index:
            symbol = catalogue().binary(path).symbol(operand.symbol)
            if symbol is not None:
                size = words[number].partition("@")[0]
                words[number] = f"{size}@{symbol.value + operand.value - marker.address}(%rip)"
    return " ".join(words)


def marker_probe(path: str, marker: Marker) -> Probe:
    """The probe of one place of a marker of a file."""
    from ..probes.model import Probe

    target = (path, marker.provider, marker.name, marker.offset, max(marker.semaphore_offset, 0), marker.arguments)
    return Probe("usdt", target, f"usdt:{path}:{marker.provider}:{marker.name}")


def guarded_marker(path: str, address: int) -> Probe | None:
    """The probe of a marker whose place a script has from ``enumerate_active_probes``, if it fires only while its semaphore is raised."""
    marker = _named.get((path, address))
    return marker_probe(path, marker) if marker is not None and marker.offset >= 0 else None


def _operands(marker: Marker) -> tuple[Operand, ...]:
    try:
        return marker.operands
    except HarkenError:
        return ()


class USDT:
    """The markers of a process or a file.

    Args:
        pid: of a process: its program and all libraries that it has loaded.
        path: a program or library, as the process sees it if a PID is given.

    Raises:
        USDTException: there is no such process or file.
    """

    def __init__(self, pid: int | None = None, path: Any = None) -> None:
        self.pid = int(pid) if pid and int(pid) != -1 else -1
        self.path = os.fsdecode(as_bytes(path)) if path else ""
        if self.path[:2] == "b'" and self.path[-1:] == "'":
            self.path = self.path[2:-1]  # str() of bytes, as funccount and stackcount pass it
        #: (function, probe) pairs in the order of ``enable_probe``
        self.enabled: list[tuple[str, USDTProbe]] = []
        if self.pid <= 0 and not self.path:
            raise USDTException("either a pid or a binary path must be specified")
        try:
            if self.path:
                files = [Names._binary(self.path, self.pid)]
            else:
                files = catalogue().process_binaries(self.pid)
        except HarkenError as error:
            raise USDTException(f"USDT failed to instrument PID {self.pid}: {error.message}") from None
        except FileNotFoundError as missing:
            raise USDTException(f"USDT failed to instrument path {self.path}: {missing}") from None
        self._files: list[str] = files
        self._probes: list[USDTProbe] | None = None

    def get_context(self) -> USDT:
        """The object itself."""
        return self

    def enumerate_probes(self) -> list[USDTProbe]:
        """All markers."""
        if self._probes is None:
            self._probes = []
            for path in self._files:
                groups: dict[tuple[str, str], list[Marker]] = {}
                try:
                    markers = catalogue().binary(path).stapsdt()
                except (HarkenError, OSError) as error:
                    if self.path:
                        raise USDTException(f"USDT failed to instrument path {self.path}: {error}") from None
                    continue
                for marker in markers:
                    groups.setdefault((marker.provider, marker.name), []).append(marker)
                self._probes += [USDTProbe(path, group) for group in groups.values()]
        return self._probes

    def _named(self, name: str) -> list[USDTProbe]:
        provider, colon, short = name.partition(":")
        if not colon:
            provider, short = "", name
        return [
            probe
            for probe in self.enumerate_probes()
            if probe.name.decode() == short and (not provider or probe.provider.decode() == provider)
        ]

    def enable_probe(self, probe: Any, fn_name: Any) -> None:
        """Runs a function of the program at a marker.

        Args:
            probe: "name" or "provider:name".
            fn_name: the C function.

        Raises:
            USDTException: there is no such marker; with names like it.
        """
        name = os.fsdecode(as_bytes(probe))
        found = self._named(name)
        if not found:
            from ..probes.providers.base import either, near_names

            known = {one.short_name(): None for one in self.enumerate_probes()}
            near = near_names(name if ":" in name else f":{name}", known) or near_names(name, [one.partition(":")[2] for one in known])
            what = f"process {self.pid}" if self.pid > 0 else self.path
            without = self._built_without(name.rpartition(":")[2])
            if without:
                reason = (
                    f"{without} is built without static markers\n"
                    "(where it can have them, a configure option like --with-dtrace or --enable-dtrace adds them)."
                )
            elif near:
                reason = f"did you mean {either(near)}?"
            elif known:
                reason = f"it has {len(known)} others: tplist or `harken list 'usdt:*' -p PID` shows them."
            else:
                reason = (
                    "it has no markers at all: the language's runtime may not be loaded, or was built without them\n"
                    "(a configure option like --with-dtrace or --enable-dtrace adds them)."
                )
            raise USDTException(f"Failed to enable USDT probe '{name}':\n{what} has no such marker; {reason}\n")
        self.enabled += [(os.fsdecode(as_bytes(fn_name)), one) for one in found]

    def _built_without(self, name: str) -> str:
        """The language runtime (or database, or C library) of the process that should have a marker and has none at all, or ""."""
        wanted = _LIBRARIES.get(name, _RUNTIMES)
        found = [path for start in wanted for path in self._files if os.path.basename(path).startswith(start)]
        marked = {probe.path for probe in self.enumerate_probes()}
        return "" if marked.intersection(found) or not found else found[0]

    def enable_probe_or_bail(self, probe: Any, fn_name: Any) -> None:
        """``enable_probe``; ends the script with a message if that fails."""
        try:
            self.enable_probe(probe, fn_name)
        except USDTException as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(1) from None

    def get_probe_arg_ctype(self, probe_name: Any, arg_index: int) -> str:
        """The C type of an argument ("int32_t"), the widest of all places; the first argument has index 0."""
        name = os.fsdecode(as_bytes(probe_name))
        widest: Operand | None = None
        for probe in self._named(name):
            for marker in probe.markers:
                operands = _operands(marker)
                if arg_index < len(operands) and (widest is None or operands[arg_index].size > widest.size):
                    widest = operands[arg_index]
        if widest is None:
            raise USDTException(f"marker {name} has no argument {arg_index + 1}")
        return f"{'' if widest.signed else 'u'}int{8 * widest.size}_t"

    def get_text(self) -> str:
        """Where the arguments of the enabled markers are found, as a C comment."""
        lines = ["/*"]
        for function, probe in self.enabled:
            for location in map(probe.get_location, range(probe.num_locations)):
                lines.append(f" * {function}: {probe.short_name()} at {location}")
                lines += [f" *   argument {i + 1}: {USDTProbeArgument(op)}" for i, op in enumerate(_operands(location.marker))]
        return "\n".join([*lines, " */", ""])

    def enumerate_active_probes(self) -> list[tuple[bytes, bytes, int, int]]:
        """(file, function, address in the file, PID or -1) of every place of the enabled markers.

        Scripts give these to ``BPF.attach_uprobe``.
        """
        for _, probe in self.enabled:
            _named.update({(probe.path, marker.address): marker for marker in probe.markers if marker.semaphore_offset > 0})
        return [
            (probe.bin_path, function.encode(), marker.address, self.pid) for function, probe in self.enabled for marker in probe.markers
        ]

    def plain(self) -> tuple[Any, ...]:
        """What the compiler needs: (function, ((address, argument text, machine) of each place, ...)) per enabled marker."""
        return tuple(
            [
                (function, tuple([(marker.address, _arguments(probe.path, marker), marker.machine) for marker in probe.markers]))
                for function, probe in self.enabled
            ]
        )

    def attach_uprobes(self, bpf: Any, attach_usdt_ignore_pid: bool = False) -> None:
        """Attaches what is enabled; ``BPF`` calls it."""
        for function, probe in self.enabled:
            bpf._attach_usdt(function, probe, -1 if attach_usdt_ignore_pid else self.pid)
