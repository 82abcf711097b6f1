"""What all questions share: who asks, and what a refusal means.

``Asking`` collects evidence once (capabilities, lockdown, configuration, tracefs, BTF ids); ``Asking.no`` turns an errno into an
``Answer`` and is the only place that decides between "the kernel lacks it", "this process may not" and "a policy forbids it".
"""

from __future__ import annotations

import errno
import os

from ...base.errors import FormatError, KernelError
from ...formats.insn import R0, encode, exit_, mov64
from .. import procfs
from ..mounts import errno_name
from .options import OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...formats.btf import Btf
    from ..config import Config
    from ..kernel import Kernel
    from ..mounts import Detached
    from ..tracefs import Tracefs
    from . import Answer, Features

__all__ = ("Asking", "RETURN_0", "module", "yes")

#: The program that does nothing.
RETURN_0 = encode((mov64(R0, imm=0), exit_()))

#: errnos that say something about the moment and nothing about the kernel.
_MOMENT = frozenset((errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ENOSPC, errno.ENOBUFS))


def yes(tried: str, reason: str = "") -> Answer:
    from . import Answer

    return Answer("yes", reason, 0, tried)


def module(name: str) -> Callable[[Asking, str], Answer]:
    """The function that asks about a feature; raises KeyError."""
    from . import NAMES

    family = name.partition(":")[0]
    where = NAMES.get(name) or ("families" if ":" in name and family in ("map", "program", "helper") else "")
    if where == "bpf":
        from .bpf import PROBES
    elif where == "attach":
        from .attach import PROBES
    elif where == "events":
        from .events import PROBES
    elif where == "tracing":
        from .tracing import PROBES
    elif where == "families":
        from .families import PROBES

        return PROBES[family]
    else:
        raise KeyError(name)
    return PROBES[name]


class Asking:
    """The evidence of one round of questions; everything is found when it is first needed."""

    def __init__(self, kernel: Kernel, features: Features) -> None:
        self.kernel = kernel
        self.features = features
        self._kept: dict[str, Any] = {}
        self._closing: list[Any] = []

    def close_later(self, fd: int) -> None:
        """Closes a descriptor whose closing detaches a probe: the kernel waits for a grace period then (50 to 200 ms), and several such
        waits overlap, with one another and with what is done meanwhile."""
        import _thread  # threading would cost 5 ms

        done = _thread.allocate_lock()
        done.acquire()

        def close() -> None:
            try:
                self.kernel.close(fd)
            except OSError:
                pass
            finally:
                done.release()

        self._closing.append(done)
        try:
            _thread.start_new_thread(close, ())
        except RuntimeError:  # no more threads: close it here
            close()

    def settle(self, wait: bool = True) -> None:
        """Waits until everything is closed, if wanted, and closes a private look at tracefs."""
        while wait and self._closing:
            self._closing.pop().acquire()
        place = self._kept.pop("detached", None)
        if place is not None:
            self._kept.pop("tracefs", None)
            place.close()

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """The result of ``make``, which is called for a name's first use only."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    @property
    def config(self) -> Config:
        from ..config import config_of

        return self.once("config", lambda: config_of(self.kernel))  # type: ignore[no-any-return]

    @property
    def capabilities(self) -> frozenset[str]:
        return self.once("capabilities", lambda: procfs.capabilities(self.kernel))  # type: ignore[no-any-return]

    @property
    def initial(self) -> bool:
        """Whether capabilities count for the whole machine."""
        return self.once("initial", lambda: procfs.initial_user_namespace(self.kernel))  # type: ignore[no-any-return]

    @property
    def lockdown(self) -> procfs.Lockdown:
        return self.once("lockdown", lambda: procfs.lockdown(self.kernel))  # type: ignore[no-any-return]

    @property
    def seccomp(self) -> int:
        def find() -> int:
            own = procfs.status(self.kernel)
            return (own.seccomp or 0) if own else 0

        return self.once("seccomp", find)  # type: ignore[no-any-return]

    @property
    def tracefs(self) -> Tracefs:
        """tracefs where it is mounted, else looked at privately (nothing is mounted for a question); raises KernelError."""

        def look() -> Tracefs | KernelError:
            from ..mounts import detached
            from ..tracefs import Tracefs, find

            try:
                return find(self.kernel, mount=False)
            except KernelError as error:
                if error.errno != errno.ENOENT:
                    return error
            try:
                place: Detached = detached(self.kernel, "tracefs")
            except KernelError as error:
                return error
            self._kept["detached"] = place  # until settle
            return Tracefs(self.kernel, place.path, "not mounted; looked at privately")

        found = self.once("tracefs", look)
        if isinstance(found, KernelError):
            raise found
        return found  # type: ignore[no-any-return]

    def btf_id(self, name: str) -> int | None:
        """The id of a function in the kernel's BTF, or of the typedef that a tracepoint has there; None if there is none, or no BTF."""

        def find() -> int | None:
            kind = "typedef" if name.startswith("btf_trace_") else "func"
            types = self.once("types", lambda: _types(self.kernel))
            try:
                return types.id_of(name, kind) if types is not None else None
            except FormatError:
                return None

        return self.once(f"id of {name}", find)  # type: ignore[no-any-return]

    def set_options(self, *options: str) -> tuple[str, ...]:
        """Those options that the configuration says are not set; none if it is not known.

        Options that it does not mention count only beside one that it does: alone they may be unknown to this kernel.
        """
        missing = tuple(option for option in options if self.config.value(option) == "n")
        return missing if any(self.config.mentions(option) for option in missing) else ()

    def lacking(self, *wanted: str) -> tuple[str, ...]:
        """Capabilities out of ``wanted`` that this process lacks; CAP_SYS_ADMIN stands for bpf and perfmon."""
        have = self.capabilities
        if not self.initial:
            return wanted
        return tuple(name for name in wanted if name not in have and not (name in ("bpf", "perfmon") and "sys_admin" in have))

    def may(self) -> str:
        """What speaks against a lack of privilege, for the reason of a refusal by policy."""
        return "although this process has all the capabilities for it"

    def no(self, tried: str, number: int, *, capabilities: tuple[str, ...] = ("bpf", "perfmon"), options: tuple[str, ...] = ()) -> Answer:
        """What a refused call means.

        Args:
            tried: the call.
            number: its errno, positive.
            capabilities: those that the kernel asks for here.
            options: configuration options without which the kernel refuses like this.
        """
        from . import Answer

        name = errno_name(number)
        said = f"{tried} = {name}"
        if number in _MOMENT:
            return Answer("unknown", f"could not tell: {said} ({os.strerror(number)})", number, tried, "moment")
        missing = self.set_options(*options)
        if number in (errno.EPERM, errno.EACCES):
            lacking = self.lacking(*capabilities)
            if lacking and not self.initial:
                return Answer(
                    "no",
                    f"{said}: this process is in a user namespace of its own, where capabilities do not count for the kernel",
                    number,
                    tried,
                    "capability:" + ",".join(lacking),
                )
            if lacking:
                text = " and ".join(f"CAP_{word.upper()}" for word in lacking)
                return Answer("no", f"{said}: this process lacks {text}", number, tried, "capability:" + ",".join(lacking))
            if missing:
                return Answer("no", f"{said}: {' and '.join(missing)} not set", number, tried, "config:" + ",".join(missing))
            if self.seccomp == 2:
                return Answer("no", f"refused by policy: {said} {self.may()}; a seccomp filter is in force", number, tried, "seccomp")
            if self.lockdown.state == "confidentiality":
                return Answer("no", f"refused by policy: {said}; the kernel is locked down (confidentiality)", number, tried, "lockdown")
            evidence = f"refused by policy: {said} {self.may()}"
            modules = self.lockdown.modules
            if self.lockdown.state:
                evidence += f"; lockdown is {self.lockdown.state}"
            if modules:
                evidence += f", security modules: {', '.join(modules)}"
            return Answer("no", evidence, number, tried, "policy")
        if missing:
            what = f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not set in this kernel"
            return Answer("no", f"{what} ({said})", number, tried, "config:" + ",".join(missing))
        if number == errno.ENOSYS:
            why = "the system call is missing in this kernel, or a seccomp filter hides it" if self.seccomp == 2 else "no such system call"
            return Answer("no", f"{said}: {why}", number, tried, "kernel")
        return Answer("no", f"this kernel does not have it: {said}", number, tried, "kernel")

    def besides(self, name: str, found: Answer) -> Answer:
        """Adds to a lack of privilege that the kernel would not have the feature even with it, if its configuration tells."""
        if found.state != "no" or not found.cause.startswith(("capability:", "sysctl:")):
            return found
        missing = self.set_options(*OPTIONS.get(name, ()))
        if not missing:
            return found
        what = f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not set in this kernel"
        return found.replace(reason=f"{what}; besides, {found.reason}", cause="config:" + ",".join(missing))

    def without(self, feature: str, tried: str = "") -> Answer | None:
        """A "no" because another feature, without which this one cannot be, is missing; None if that one is there."""
        from . import Answer

        other = self.features.answer(feature)
        if other.state == "yes":
            return None
        cause = (
            other.cause
            if other.cause.startswith(("config:", "sysctl:", "capability:", "policy", "lockdown", "seccomp"))
            else f"needs:{feature}"
        )
        return Answer(other.state, f"needs {feature}: {other.reason}", other.errno, tried or other.tried, cause)


def _types(kernel: Kernel) -> Btf | None:
    from ..btf import vmlinux_types

    try:
        return vmlinux_types(kernel)
    except (KernelError, FormatError):
        return None
