"""Attaching to tracepoints, by trampolines to kernel functions, and to security hooks."""

from __future__ import annotations

import os

from ..base.errors import HarkenError, ProbeError
from ..compiler.context import Context
from .attach_kernel import KernelProbes, function_probe, probe_limit
from .constants import BPFProgType
from .errors import BPFError, attach_error
from .names import catalogue, kernel
from .utils import as_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

__all__ = ("KernelEvents",)


class KernelEvents(KernelProbes):
    """The part of ``BPF`` that attaches to events of the kernel."""

    if TYPE_CHECKING:
        uprobe_fds: dict[bytes, Any]
        tracepoint_fds: dict[bytes, Any]
        raw_tracepoint_fds: dict[bytes, Any]
        kfunc_entry_fds: dict[bytes, Any]
        kfunc_exit_fds: dict[bytes, Any]
        fmod_ret_fds: dict[bytes, Any]
        lsm_fds: dict[bytes, Any]

    # -- tracepoints

    def attach_tracepoint(self, tp: Any = b"", tp_re: Any = b"", fn_name: Any = b"") -> Self | None:
        """Runs a function at a tracepoint.

        Args:
            tp: "category:event".
            tp_re: instead: all tracepoints that match this regular expression.
            fn_name: the C function.
        """
        if tp_re:
            for one in self.get_tracepoints(as_bytes(tp_re)):
                self.attach_tracepoint(tp=one.encode(), fn_name=fn_name)
            return None
        name, function = as_bytes(tp), self._known(fn_name)
        category, _, event = os.fsdecode(name).partition(":")
        what = f"Failed to attach BPF program {as_bytes(fn_name)!r} to tracepoint {name!r}"
        links = self._attach_or_say(what, function, ("tracepoint", category, event), "tracepoint", (category, event))
        self.tracepoint_fds[name] = links[0][0]
        return self

    def _attach_or_say(
        self, what: str, function: str, key: tuple[Any, ...], kind: str, name: tuple[Any, ...]
    ) -> list[tuple[Any, tuple[Any, ...]]]:
        from ..probes.model import Probe

        probe = Probe(kind, name, f"{kind}:{':'.join([str(word) for word in name if word])}")
        if kind in ("tracepoint",) and not self.tracepoint_exists(*name):
            try:
                catalogue().tracepoint(*name)
            except HarkenError as error:
                raise attach_error(what, error) from None
        try:
            return self._attach(function, key, lambda: (probe,))
        except BPFError:
            raise
        except HarkenError as error:
            raise attach_error(what, error) from None

    def detach_tracepoint(self, tp: Any = b"") -> None:
        """Takes back ``attach_tracepoint``."""
        self._close(self.tracepoint_fds, as_bytes(tp), "Tracepoint")

    def attach_raw_tracepoint(self, tp: Any = b"", fn_name: Any = b"") -> Self:
        """Runs a function at a tracepoint, with the tracepoint's own arguments instead of a record.

        Args:
            tp: the event, without category.
            fn_name: the C function.
        """
        name, function = as_bytes(tp), self._known(fn_name)
        if name in self.raw_tracepoint_fds:
            raise BPFError(f"Raw tracepoint {name!r} has been attached")
        event = os.fsdecode(name)
        what = "Failed to attach BPF to raw tracepoint"
        links = self._attach_or_say(f"{what} {name!r}", function, ("rawtracepoint", event), "rawtracepoint", (event,))
        self.raw_tracepoint_fds[name] = links[0][0]
        return self

    def detach_raw_tracepoint(self, tp: Any = b"") -> None:
        """Takes back ``attach_raw_tracepoint``."""
        self._close(self.raw_tracepoint_fds, as_bytes(tp), "Raw tracepoint")

    @staticmethod
    def _close(links: dict[bytes, Any], name: bytes, what: str) -> None:
        link = links.pop(name, None)
        if link is None:
            raise BPFError(f"{what} {name!r} is not attached")
        link.close()

    # -- trampolines and security hooks

    def attach_kfunc(self, fn_name: Any = b"") -> Self:
        """Runs a ``KFUNC_PROBE`` at the entry of its kernel function."""
        return self._attach_bound(b"kfunc__", fn_name, self.kfunc_entry_fds, "Kernel entry func", "entry kernel func", "fentry")

    def attach_kretfunc(self, fn_name: Any = b"") -> Self:
        """Runs a ``KRETFUNC_PROBE`` at the return of its kernel function."""
        return self._attach_bound(b"kretfunc__", fn_name, self.kfunc_exit_fds, "Kernel exit func", "exit kernel func", "fexit")

    def attach_fmod_ret(self, fn_name: Any = b"") -> Self:
        """Runs a ``KMOD_RET``, which may change the result of its kernel function."""
        return self._attach_bound(b"kmod_ret__", fn_name, self.fmod_ret_fds, "Fmod_ret func", "fmod_ret kernel func", "fmod_ret")

    def attach_lsm(self, fn_name: Any = b"") -> Self:
        """Runs an ``LSM_PROBE`` at its security hook."""
        return self._attach_bound(b"lsm__", fn_name, self.lsm_fds, "LSM", "LSM", "lsm")

    def _attach_bound(self, prefix: bytes, fn_name: Any, links: dict[bytes, Any], what: str, place: str, kind: str) -> Self:
        name = self.add_prefix(prefix, as_bytes(fn_name))
        if name in links:
            raise BPFError(f"{what} {name!r} has been attached")
        function = self._known(name)
        target = self._program.functions[function].target
        module, _, traced = target.rpartition(":")
        failure = f"Failed to attach BPF to {place} {traced!r}"
        if kind in ("fentry", "fexit"):
            try:
                links[name] = self._attach_or_say(failure, function, (kind, module, traced), kind, (module, traced, 0))[0][0]
            except BPFError:
                link = self._attach_undescribed(function, "kprobe" if kind == "fentry" else "kretprobe", module, traced)
                if link is None:
                    raise
                links[name] = link
            return self
        try:
            links[name] = self._attach_hook(function, target, kind)
        except BPFError:
            raise
        except HarkenError as error:
            raise attach_error(failure, error) from None
        return self

    def _attach_undescribed(self, function: str, kind: str, module: str, traced: str) -> Any:
        """A kernel function that BTF does not describe takes no trampoline, but may take a probe, which has the arguments in registers.

        None: it is described (so that is not the reason), or takes no probe either.
        """
        if catalogue().function(traced, module) is not None:
            return None
        try:
            links = self._attach(function, (kind, module, traced, 0), lambda: (function_probe(kind, module, traced, 0),))
        except (BPFError, HarkenError):
            return None
        return links[0][0]

    def _attach_hook(self, function: str, target: str, kind: str) -> Any:
        """fmod_ret and LSM programs: bound to their target at load."""
        from ..abi import bpf as abi
        from ..kernel.link import tracing_link

        answer = catalogue().features.answer(kind)
        if answer.state == "no":
            raise ProbeError(f"this kernel has no {kind} programs for us: {answer.reason}")
        attach_type = abi.BPF_LSM_MAC if kind == "lsm" else abi.BPF_MODIFY_RETURN
        number = BPFProgType.LSM if kind == "lsm" else BPFProgType.TRACING  # type: ignore[attr-defined]
        context = Context(number, "tracing", (), attach_type, target)
        return tracing_link(kernel(), self._live(function, context), attach_type, what=target)

    def detach_kfunc(self, fn_name: Any = b"") -> None:
        """Takes back ``attach_kfunc``."""
        self._close(self.kfunc_entry_fds, self.add_prefix(b"kfunc__", as_bytes(fn_name)), "Kernel entry func")

    def detach_kretfunc(self, fn_name: Any = b"") -> None:
        """Takes back ``attach_kretfunc``."""
        self._close(self.kfunc_exit_fds, self.add_prefix(b"kretfunc__", as_bytes(fn_name)), "Kernel exit func")

    def detach_fmod_ret(self, fn_name: Any = b"") -> None:
        """Takes back ``attach_fmod_ret``."""
        self._close(self.fmod_ret_fds, self.add_prefix(b"kmod_ret__", as_bytes(fn_name)), "Fmod_ret func")

    def detach_lsm(self, fn_name: Any = b"") -> None:
        """Takes back ``attach_lsm``."""
        self._close(self.lsm_fds, self.add_prefix(b"lsm__", as_bytes(fn_name)), "LSM")

    # -- numbers

    def num_open_kprobes(self) -> int:
        """Kernel functions that something is attached to (entry and return count each)."""
        return len(self.kprobe_fds)

    def num_open_uprobes(self) -> int:
        """Places in programs and libraries that something is attached to."""
        return len(self.uprobe_fds)

    def num_open_tracepoints(self) -> int:
        """Tracepoints that something is attached to."""
        return len(self.tracepoint_fds)

    @staticmethod
    def get_probe_limit() -> int:
        """The most probes that may be open: ``BCC_PROBE_LIMIT``, else 1000."""
        return probe_limit()
