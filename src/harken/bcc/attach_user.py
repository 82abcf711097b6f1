"""Attaching to programs and libraries, to perf events, to network devices and sockets."""

from __future__ import annotations

import os

from ..abi import bpf as abi
from ..base.errors import HarkenError, KernelError, ProbeError
from ..compiler.context import Context
from .attach_events import KernelEvents
from .attach_kernel import Share, event_name
from .errors import BPFError, attach_error
from .names import catalogue, kernel
from .usdt import guarded_marker, marker_probe
from .utils import as_bytes, get_online_cpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from ..probes.model import Probe
    from .usdt import USDTProbe

__all__ = ("Function", "Probes")

_SO_ATTACH_BPF = 50
_ETH_P_ALL = 3


class Function:
    """A loaded program: ``bpf`` is its ``BPF`` object, ``name`` the C function as bytes, ``fd`` the descriptor."""

    def __init__(self, bpf: Any, name: bytes, fd: int) -> None:
        self.bpf, self.name, self.fd = bpf, name, fd
        self.sock = -1


class Probes(KernelEvents):
    """The part of ``BPF`` that attaches to anything."""

    Function = Function

    if TYPE_CHECKING:
        uprobe_fds: dict[bytes, Any]
        open_perf_events: dict[tuple[int, int], dict[int, Any]]

        def load_func(self, func_name: Any, prog_type: int, device: Any = None, attach_type: int = -1) -> Any: ...

    # -- programs and libraries

    @classmethod
    def _check_path_symbol(cls, module: Any, symname: Any, addr: int | None, pid: int, sym_off: int = 0) -> tuple[bytes, int]:
        """(path, address in the file) of a symbol or address of a program or library."""
        name, symbol = os.fsdecode(as_bytes(module)), os.fsdecode(as_bytes(symname) or b"")
        failure = f"could not determine address of symbol {symbol or hex(addr or 0)} in {name}"
        try:
            path = cls._binary(name, pid)
            if addr is not None:
                return os.fsencode(path), addr
            found = catalogue().binary(path).symbol(symbol)
        except HarkenError as error:
            raise attach_error(failure, error) from None
        except OSError as missing:
            raise BPFError(f"{failure}: {missing}") from None
        if found is None:
            from ..probes.providers.base import either, near_names

            near = near_names(symbol, [other for other, *_ in catalogue().binary(path).functions()])
            raise BPFError(failure + (f": did you mean {either(near)}?" if near else ""))
        return os.fsencode(path), found.value + sym_off

    def attach_uprobe(
        self,
        name: Any = b"",
        sym: Any = b"",
        sym_re: Any = b"",
        addr: int | None = None,
        fn_name: Any = b"",
        pid: int = -1,
        sym_off: int = 0,
    ) -> Self | None:
        """Runs a function at a function of a program or library.

        Args:
            name: a path, or a library without "lib" ("c").
            sym: the function.
            sym_re: instead: all functions whose names match this regular expression.
            addr: instead: an address as the file has it.
            fn_name: the C function.
            pid: only in this process (with its libraries); -1: in all.
            sym_off: bytes from the function's start.

        The address of a marker that ``USDT.enumerate_active_probes`` has named is attached as that marker: with its semaphore raised.
        """
        return self._attach_uprobes("uprobe", name, sym, sym_re, addr, fn_name, pid, sym_off)

    def attach_uretprobe(
        self, name: Any = b"", sym: Any = b"", sym_re: Any = b"", addr: int | None = None, fn_name: Any = b"", pid: int = -1
    ) -> Self | None:
        """Runs a function at the return of a function of a program or library; arguments as of ``attach_uprobe``."""
        return self._attach_uprobes("uretprobe", name, sym, sym_re, addr, fn_name, pid, 0)

    def _attach_uprobes(
        self, kind: str, name: Any, sym: Any, sym_re: Any, addr: int | None, fn_name: Any, pid: int | None, sym_off: int
    ) -> Self | None:
        assert sym_off >= 0
        if addr is not None:
            assert sym_off == 0, "offset with addr is not supported"
        function = self._known(fn_name)
        process = -1 if pid is None or pid <= 0 else pid
        letter = b"p" if kind == "uprobe" else b"r"
        if sym_re:
            try:
                path = self._binary(os.fsdecode(as_bytes(name)), process)
                addresses = sorted(self.get_user_addresses(path, sym_re))
            except HarkenError as error:
                raise attach_error(f"Failed to attach BPF to {kind}", error) from None
            except FileNotFoundError as missing:
                raise BPFError(f"Failed to attach BPF to {kind}: {missing}") from None
            self._check_probe_quota(len(addresses))
            self._attach_places(kind, letter, function, path, addresses, process)
            return None
        where, address = self._check_path_symbol(name, sym, addr, process, sym_off)
        self._check_probe_quota(1)
        self._attach_places(kind, letter, function, os.fsdecode(where), [address], process)
        return self

    def _attach_places(self, kind: str, letter: bytes, function: str, path: str, addresses: list[int], pid: int) -> None:
        if not addresses:
            return
        key: tuple[Any, ...] = ()
        probes: Callable[[], tuple[Probe, ...]] = lambda: _user_probes(kind, path, addresses)  # noqa: E731
        if len(addresses) == 1 and kind == "uprobe" and (guarded := guarded_marker(path, addresses[0])):
            probes = lambda: (guarded,)  # noqa: E731
        elif len(addresses) == 1:
            try:
                state = os.stat(path)
            except OSError:
                pass
            else:
                key = (kind, path, addresses[0], state.st_size, state.st_mtime_ns, state.st_ino)
        try:
            links = self._attach(function, key, probes, pid)
        except BPFError:
            raise
        except HarkenError as error:
            raise attach_error(f"Failed to attach BPF to {kind}", error) from None
        shares = [Share(link) for link, _ in links]
        for number, address in enumerate(addresses):
            share = shares[number] if len(shares) == len(addresses) else shares[0]
            self.uprobe_fds[event_name(letter, path.encode(), address, pid)] = share.one()

    def detach_uprobe_event(self, ev_name: Any) -> None:
        """Detaches by the event's name in ``uprobe_fds``."""
        self._close(self.uprobe_fds, as_bytes(ev_name), "Uprobe")

    def detach_uprobe(self, name: Any = b"", sym: Any = b"", addr: int | None = None, pid: int = -1, sym_off: int = 0) -> None:
        """Takes back ``attach_uprobe``."""
        path, address = self._check_path_symbol(name, sym, addr, pid, sym_off)
        self.detach_uprobe_event(event_name(b"p", path, address, pid))

    def detach_uretprobe(self, name: Any = b"", sym: Any = b"", addr: int | None = None, pid: int = -1) -> None:
        """Takes back ``attach_uretprobe``."""
        path, address = self._check_path_symbol(name, sym, addr, pid)
        self.detach_uprobe_event(event_name(b"r", path, address, pid))

    def _attach_usdt(self, fn_name: str, probe: USDTProbe, pid: int) -> None:
        """Attaches a function to all places of a marker."""
        function = self._known(fn_name)
        self._check_probe_quota(probe.num_locations)
        probes = tuple([marker_probe(probe.path, marker) for marker in probe.markers if marker.offset >= 0])
        try:
            links = self._attach(function, (), lambda: probes, pid)
        except BPFError:
            raise
        except HarkenError as error:
            raise attach_error(f"Failed to attach BPF to uprobe of marker {probe.short_name()}", error) from None
        shares = [Share(link) for link, _ in links]
        for number, marker in enumerate(probe.markers):
            share = shares[number] if len(shares) == len(probe.markers) else shares[0]
            self.uprobe_fds[event_name(b"p", probe.bin_path, marker.address, pid)] = share.one()

    # -- perf events

    def attach_perf_event(
        self,
        ev_type: int = -1,
        ev_config: int = -1,
        fn_name: Any = b"",
        sample_period: int = 0,
        sample_freq: int = 0,
        pid: int = -1,
        cpu: int = -1,
        group_fd: int = -1,
    ) -> None:
        """Runs a function at every Nth occurrence of a perf event.

        Args:
            ev_type, ev_config: the event (``PerfType``, ``PerfHWConfig``, ``PerfSWConfig``).
            sample_period: occurrences from one run to the next.
            sample_freq: instead: runs per second.
            pid: only in this process and those that it starts; -1: in all.
            cpu: only on this CPU; -1: on all that are online.
            group_fd: a group of events to belong to.
        """
        from ..kernel.perf_event import Attr

        flags = ("disabled", "inherit") if pid > 0 else ("disabled",)
        attr = Attr(ev_type, ev_config, period=sample_period if not sample_freq else 0, freq=sample_freq, flags=flags)
        self._attach_counters((ev_type, ev_config), attr, fn_name, pid, cpu, group_fd, "Failed to attach BPF to perf event")

    def _attach_counters(self, key: tuple[int, int], attr: Any, fn_name: Any, pid: int, cpu: int, group_fd: int, failure: str) -> None:
        from ..kernel.perf_event import open_event

        function = self.load_func(fn_name, abi.BPF_PROG_TYPE_PERF_EVENT)
        events: dict[int, Any] = {}
        cpus = [cpu] if cpu >= 0 else get_online_cpus()
        try:
            for number in cpus:
                event = events[number] = open_event(kernel(), attr, pid, number, group_fd)
                event.set_bpf(function)
                event.enable()
        except KernelError as error:
            for event in events.values():
                event.close()
            raise attach_error(failure, error) from None
        self.open_perf_events[key] = events

    def attach_perf_event_raw(self, attr: Any = -1, fn_name: Any = b"", pid: int = -1, cpu: int = -1, group_fd: int = -1) -> None:
        """Runs a function at a perf event that a ``Perf.perf_event_attr`` describes."""
        from ..kernel.kernel import Call
        from ..kernel.perf_event import PerfEvent

        function = self.load_func(fn_name, abi.BPF_PROG_TYPE_PERF_EVENT)
        events: dict[int, Any] = {}
        for number in [cpu] if cpu >= 0 else get_online_cpus():
            fd = kernel().call(Call("perf_event_open", (bytearray(bytes(attr)), pid, number, group_fd, 8)))
            if fd >= 0:
                event = events[number] = PerfEvent(kernel(), fd)
                try:
                    event.set_bpf(function)
                    event.enable()
                    continue
                except KernelError as error:
                    fd = -error.errno
            for event in events.values():
                event.close()
            raise BPFError(f"Failed to attach BPF to perf raw event: {os.strerror(-fd)}")
        self.open_perf_events[(attr.type, attr.config)] = events

    def detach_perf_event(self, ev_type: int = -1, ev_config: int = -1) -> None:
        """Takes back ``attach_perf_event``."""
        events = self.open_perf_events.pop((ev_type, ev_config), None)
        if events is None:
            raise BPFError(f"Perf event type {ev_type} config {ev_config} not attached")
        for event in events.values():
            event.close()

    # -- cgroups, devices, sockets

    @staticmethod
    def attach_func(fn: Any, attachable_fd: int, attach_type: int, flags: int = 0) -> None:
        """BPF_PROG_ATTACH: a program to a cgroup, map or device by descriptor (``BPFAttachType``)."""
        Probes._attached(fn, attachable_fd, attach_type, abi.BPF_PROG_ATTACH, "attach", flags)

    @staticmethod
    def detach_func(fn: Any, attachable_fd: int, attach_type: int) -> None:
        """BPF_PROG_DETACH: takes back ``attach_func``."""
        Probes._attached(fn, attachable_fd, attach_type, abi.BPF_PROG_DETACH, "detach", 0)

    @staticmethod
    def _attached(fn: Any, target: int, attach_type: int, command: int, verb: str, flags: int) -> None:
        from ..kernel.bpf import attr, bpf

        if not isinstance(fn, Function):
            raise Exception("arg 1 must be of type BPF.Function")
        names = {"target_fd": target, "attach_bpf_fd": fn.fd, "attach_type": attach_type, "attach_flags": flags}
        result = bpf(kernel(), command, attr(abi.PROG_ATTACH, abi.PROG_ATTACH_SIZE, **names))
        if result < 0:
            raise BPFError(f"Failed to {verb} BPF function with attach_type {attach_type}: {os.strerror(-result)}")

    @staticmethod
    def attach_raw_socket(fn: Any, dev: Any) -> None:
        """Gives a raw packet socket on a device the program as filter; the socket's descriptor is then ``fn.sock``."""
        import socket

        if not isinstance(fn, Function):
            raise Exception("arg 1 must be of type BPF.Function")
        name = as_bytes(dev)
        try:
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ALL))
            try:
                opened.bind((os.fsdecode(name), 0))
            except OSError:
                opened.close()
                raise
        except OSError as error:
            raise BPFError(f"Failed to open raw device {name!r}: {error.strerror or error}") from None
        try:
            opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_BPF, fn.fd)
        except OSError as error:
            opened.close()
            raise BPFError(f"Failed to attach BPF to device {name!r}: {error.strerror or error}") from None
        fn.sock = opened.detach()

    _xdp: dict[int, Any] = {}

    @staticmethod
    def attach_xdp(dev: Any, fn: Any, flags: int = 0) -> None:
        """Runs a program on every packet that a device receives; until ``remove_xdp`` or the end of the process."""
        import socket

        from ..kernel.link import BpfLink, try_link

        if not isinstance(fn, Function):
            raise Exception("arg 1 must be of type BPF.Function")
        name = as_bytes(dev)
        try:
            index = socket.if_nametoindex(os.fsdecode(name))
        except OSError as error:
            raise BPFError(f"Failed to attach BPF to device {name!r}: {error.strerror or error}") from None
        fd = try_link(kernel(), fn.fd, abi.BPF_XDP, index, flags & ~0x11)
        if fd < 0:
            raise BPFError(f"Failed to attach BPF to device {name!r}: {os.strerror(-fd)}")
        old = Probes._xdp.pop(index, None)
        if old is not None:
            old.close()
        Probes._xdp[index] = BpfLink(kernel(), fd, os.fsdecode(name))

    @staticmethod
    def remove_xdp(dev: Any, flags: int = 0) -> None:
        """Takes back ``attach_xdp``."""
        import socket

        name = as_bytes(dev)
        try:
            link = Probes._xdp.pop(socket.if_nametoindex(os.fsdecode(name)), None)
        except OSError as error:
            raise BPFError(f"Failed to detach BPF from device {name!r}: {error.strerror or error}") from None
        if link is not None:
            link.close()


#: program type -> what ctx is, for programs that are loaded without an attachment
CONTEXTS = {
    abi.BPF_PROG_TYPE_KPROBE: "pt_regs",
    abi.BPF_PROG_TYPE_TRACEPOINT: "tracepoint",
    abi.BPF_PROG_TYPE_RAW_TRACEPOINT: "raw_tracepoint",
    abi.BPF_PROG_TYPE_PERF_EVENT: "perf_event",
    abi.BPF_PROG_TYPE_XDP: "xdp",
    abi.BPF_PROG_TYPE_TRACING: "tracing",
    abi.BPF_PROG_TYPE_LSM: "tracing",
}


def context_of_type(prog_type: int, attach_type: int, target: str, kind: str) -> Context:
    """How a program of a type runs that is loaded without an attachment.

    Args:
        attach_type: expected attach type, -1 for the type's own.
        target, kind: what the function's name says; programs of type TRACING and LSM are bound to it.
    """
    expected = max(attach_type, 0)
    if prog_type == abi.BPF_PROG_TYPE_TRACING:
        own = {"kretfunc": abi.BPF_TRACE_FEXIT, "fmod_ret": abi.BPF_MODIFY_RETURN, "iter": abi.BPF_TRACE_ITER}
        expected = expected or own.get(kind, abi.BPF_TRACE_FENTRY)
    elif prog_type == abi.BPF_PROG_TYPE_LSM:
        expected = abi.BPF_LSM_MAC
    bound = target if prog_type in (abi.BPF_PROG_TYPE_TRACING, abi.BPF_PROG_TYPE_LSM) else ""
    returns = kind in ("kretprobe", "kretfunc")
    return Context(prog_type, CONTEXTS.get(prog_type, "skb"), (), expected, bound, -1, 0, returns)


def _user_probes(kind: str, path: str, addresses: list[int]) -> tuple[Probe, ...]:
    """Probes at addresses of a file.

    Raises:
        ProbeError: an address is not in the file's code.
    """
    from ..probes.model import Probe
    from ..probes.providers.binary import executable_offset

    elf = catalogue().binary(path)
    probes = []
    for address in addresses:
        offset = executable_offset(elf, address)
        if offset is None:
            raise ProbeError(f"{path}: {address:#x} is not an address of its code")
        symbol, inside = elf.symbol_at(address) or ("", 0)
        probes.append(Probe(kind, (path, symbol, inside, offset), f"{kind}:{path}:{symbol or hex(address)}"))
    return tuple(probes)
