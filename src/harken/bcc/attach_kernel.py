"""Attaching to kernel functions, and what all attaching shares.

The planner chooses the mechanism: ``attach_kprobe`` makes an fentry program where kprobes are missing, one link for many functions where
``event_re`` names many, a perf event per function elsewhere.  What cannot be attached raises BCC's exception with the reason.
"""

from __future__ import annotations

import os

from ..base.errors import HarkenError, KernelError, ProbeError, VerifierError
from ..compiler.context import Context
from .errors import BPFError, attach_error
from .facts import Facts
from .names import catalogue, kernel
from .utils import as_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from ..probes.model import Probe
    from .program import Program

__all__ = ("KernelProbes", "Share", "function_probe", "open_probes", "probe_limit")

_DEFAULT_LIMIT = 1000
#: how many calls a return probe may follow at once can only be set for events of tracefs; these have a limit of the kernel's choice
_NO_MAXACTIVE = ("kprobe_multi", "kprobe_perf")
_NOT_TRACEABLE = 'it\'s not traceable (either non-existing, inlined, or marked as "notrace")'

#: what the names of functions that allocate memory end with since they can account for their callers, which say the old names still, now
#: macros; the arguments are the same (kernel commit 7bd230a26648 and its neighbours, Linux 6.10)
_ACCOUNTED = "_noprof"

_count = [0]


def open_probes() -> int:
    """Probes of all BPF objects of this process that are attached now."""
    return _count[0]


def probe_limit() -> int:
    """The most probes that may be attached: ``BCC_PROBE_LIMIT``, else 1000."""
    wish = os.environ.get("BCC_PROBE_LIMIT", "")
    return int(wish) if wish.isdigit() else _DEFAULT_LIMIT


class Share:
    """A link that serves several places; it is closed with the last of them."""

    def __init__(self, link: Any) -> None:
        self.link, self.users = link, 0

    def one(self) -> Share:
        """One more place."""
        self.users += 1
        _count[0] += 1
        return self

    def close(self) -> None:
        """One place less."""
        _count[0] -= 1
        self.users -= 1
        if not self.users:
            self.link.close()


class KernelProbes(Facts):
    """The part of ``BPF`` that attaches to the kernel."""

    if TYPE_CHECKING:
        _program: Program
        kprobe_fds: dict[bytes, dict[bytes, Any]]

        def _load(self, function: str, context: Context) -> Any: ...
        def _live(self, function: str, context: Context) -> Any: ...
        def _refused(self, error: HarkenError, function: str) -> BPFError: ...

    # -- shared

    def _known(self, fn_name: Any) -> str:
        name = os.fsdecode(as_bytes(fn_name) or b"")
        if name not in self._program.functions:
            raise BPFError(f"Unknown program {name.encode()!r}")
        return name

    def _check_probe_quota(self, num_new_probes: int) -> None:
        if open_probes() + num_new_probes > probe_limit():
            raise BPFError(
                f"Number of open probes would exceed global quota ({probe_limit()}; the environment variable BCC_PROBE_LIMIT raises it)"
            )

    def _attach(
        self,
        function: str,
        key: tuple[Any, ...],
        probes: Callable[[], tuple[Probe, ...]],
        pid: int = -1,
        maxactive: int = 0,
    ) -> list[tuple[Any, tuple[Any, ...]]]:
        """Attaches a function to probes; (link, places) pairs.

        A mechanism that the kernel refuses only as it is used (an fentry program that cannot be bound to this very function, a plan of
        the cache from before a module went) makes room for the next one (``session.fallback``).

        Raises:
            ProbeError, KernelError: refused; nothing stays attached.
            BPFError: the program does not load.
        """
        from ..probes.attachers import ATTACHERS
        from ..probes.model import AttachOptions
        from ..session.fallback import another

        options = AttachOptions(pid, maxactive)
        # what has no limit at all (fexit) serves too
        limited = maxactive > 0
        avoid: tuple[str, ...] = _NO_MAXACTIVE if limited else ()
        if limited and key:
            key += ("maxactive",)
        first: HarkenError | None = None
        while True:
            made: list[tuple[Any, tuple[Any, ...]]] = []
            mechanism = ""
            loading = False
            try:
                for context in self._program.contexts(function, key, probes, pid, avoid):
                    mechanism, loading = context.attach[0].mechanism, True
                    program = self._load(function, context)
                    loading = False
                    for place in context.attach:
                        made.append((ATTACHERS[place.mechanism].attach(kernel(), program, place, options), (place,)))
                return made
            except HarkenError as error:
                for link, _ in made:
                    link.close()
                if limited and not mechanism and isinstance(error, ProbeError):
                    from .errors import say

                    say(f"{function}(): maxactive is ignored: this kernel only has return probes whose limit cannot be set")
                    limited, avoid = False, ()
                    continue
                again = another(error, mechanism, avoid, code=True)
                if again:
                    first, avoid = first or error, again
                    continue
                if not mechanism and first is not None:
                    error = first  # nothing else is left: the reason is the first refusal
                if loading or isinstance(error, VerifierError):
                    raise self._refused(error, function) from None
                raise error from None

    # -- kprobes

    def attach_kprobe(self, event: Any = b"", event_off: int = 0, fn_name: Any = b"", event_re: Any = b"") -> Self | None:
        """Runs a function at the entry of a kernel function.

        Args:
            event: the function; "module:function" and "function+offset" are understood.
            event_off: bytes from its start.
            fn_name: the C function.
            event_re: instead of ``event``: all functions whose names match this regular expression.

        Raises:
            Exception: none of them can be attached.
        """
        return self._attach_kprobes("kprobe", as_bytes(event), event_off, as_bytes(fn_name), as_bytes(event_re))

    def attach_kretprobe(self, event: Any = b"", fn_name: Any = b"", event_re: Any = b"", maxactive: int = 0) -> Self | None:
        """Runs a function at the return of a kernel function.

        Args:
            event, fn_name, event_re: as for ``attach_kprobe``.
            maxactive: how many calls may be under way at once; others are missed.  0: as many as the kernel likes (twice the number
                of CPUs, at least 10), or no limit where the mechanism has none (fexit).
        """
        return self._attach_kprobes("kretprobe", as_bytes(event), 0, as_bytes(fn_name), as_bytes(event_re), maxactive)

    def _attach_kprobes(self, kind: str, event: bytes, offset: int, fn_name: bytes, event_re: bytes, maxactive: int = 0) -> Self | None:
        function = self._known(fn_name)
        what = f"Failed to attach BPF program {fn_name!r} to {kind}"
        letter = b"p_" if kind == "kprobe" else b"r_"
        if event_re:
            events = sorted(self.get_kprobe_functions(event_re))
            self._attach_many(kind, events, function, fn_name, event_re, what, letter, maxactive)
            return None
        self._check_probe_quota(1)
        text = os.fsdecode(event)
        name, plus, more = text.partition("+")
        at = offset + (int(more, 0) if plus else 0)
        module, _, name = name.rpartition(":")
        try:
            try:
                links = self._attach(function, (kind, module, name, at), lambda: (function_probe(kind, module, name, at),), -1, maxactive)
            except (ProbeError, KernelError):
                other = _stand_in(name) if kind == "kprobe" and not at else None
                if other is None:
                    raise
                links = self._attach(function, ("rawtracepoint", str(other.name[0])), lambda: (other,))
        except BPFError:
            raise
        except ProbeError as error:
            raise attach_error(f"{what} {event!r}, {_NOT_TRACEABLE}", error) from None
        except KernelError as error:
            raise attach_error(f"{what} {event!r}, {_NOT_TRACEABLE}", error) from None
        event_name = letter + event.replace(b"+", b"_").replace(b".", b"_")
        for link, _ in links:
            self.kprobe_fds.setdefault(event_name, {})[fn_name] = Share(link).one()
        return self

    def _attach_many(
        self, kind: str, events: list[bytes], function: str, fn_name: bytes, event_re: bytes, what: str, letter: bytes, maxactive: int
    ) -> None:
        """All functions at once if the kernel takes them so, else one by one; those that it refuses are left out."""
        self._check_probe_quota(len(events))
        if not events:
            _refuse_if_none_can_be(kind, f"{what} {event_re!r}, {_NOT_TRACEABLE}")
            return
        names = [event.decode() for event in events]
        try:
            links = self._attach(function, (), lambda: tuple([function_probe(kind, "", name, 0, True) for name in names]), -1, maxactive)
        except (ProbeError, KernelError):
            links = []
        if links:
            for link, places in links:
                share = Share(link)
                refused = set(getattr(link, "skipped", ()))
                for name in _names_in(places, names):
                    if name not in refused:
                        self.kprobe_fds.setdefault(letter + name.replace(".", "_").encode(), {})[fn_name] = share.one()
            return
        failed: list[bytes] = []
        reason: Exception | None = None
        for event in events:
            try:
                self._attach_kprobes(kind, event, 0, fn_name, b"", maxactive)
            except BPFError as error:
                failed.append(event)
                reason = error
        if len(failed) == len(events):
            raise BPFError(f"{what} {b'/'.join(failed)!r}, {_NOT_TRACEABLE}: {reason}")

    def detach_kprobe_event(self, ev_name: Any) -> None:
        """Detaches all functions from an event by its name in ``kprobe_fds``."""
        name = as_bytes(ev_name)
        for fn_name in list(self.kprobe_fds.get(name, ())):
            self.detach_kprobe_event_by_fn(name, fn_name)

    def detach_kprobe_event_by_fn(self, ev_name: Any, fn_name: Any) -> None:
        """Detaches one function."""
        name, function = as_bytes(ev_name), as_bytes(fn_name)
        if function not in self.kprobe_fds.get(name, ()):
            raise BPFError(f"Kprobe {name!r} is not attached")
        self.kprobe_fds[name].pop(function).close()
        if not self.kprobe_fds[name]:
            del self.kprobe_fds[name]

    def detach_kprobe(self, event: Any, fn_name: Any = None) -> None:
        """Takes back ``attach_kprobe``; of one function or all."""
        self._detach_kprobe(b"p_", as_bytes(event), as_bytes(fn_name))

    def detach_kretprobe(self, event: Any, fn_name: Any = None) -> None:
        """Takes back ``attach_kretprobe``."""
        self._detach_kprobe(b"r_", as_bytes(event), as_bytes(fn_name))

    def _detach_kprobe(self, letter: bytes, event: bytes, fn_name: bytes | None) -> None:
        name = letter + event.replace(b"+", b"_").replace(b".", b"_")
        if name not in self.kprobe_fds:
            raise BPFError(f"Kprobe {event!r} is not attached")
        if fn_name:
            self.detach_kprobe_event_by_fn(name, fn_name)
        else:
            self.detach_kprobe_event(name)


def function_probe(kind: str, module: str, name: str, offset: int, listed: bool = False) -> Probe:
    """The probe of a kernel function.

    Args:
        listed: it comes from the list of functions.

    Raises:
        ProbeError: there is no such function; with names like it.
    """
    from ..probes.model import Probe

    found = catalogue()
    owner = "" if module in ("", "vmlinux") else module
    if name[:2] == "0x" or name.isdigit():
        return Probe(kind, ("", "", int(name, 0) + offset), f"{kind}:{name}")
    if found.function(name, owner) is None:
        listed_names = [pair for pair in found.functions() if pair[0] == name and (not owner or pair[1] == owner)]
        if listed_names:
            owner = listed_names[0][1]
        elif not listed and not owner and found.function(name + _ACCOUNTED, "") is not None:
            name += _ACCOUNTED
        elif not listed and found.kernel_symbols.addresses(name, owner) == []:
            from ..probes.providers.base import either, near_names

            if name in _INJECTION:
                raise ProbeError(
                    f"this kernel has no function {name}", f"it is built without {_INJECTION[name]}, by which errors are injected"
                )
            near = near_names(name, [other for other, _ in found.functions()])
            raise ProbeError(f"this kernel has no function {name}", f"did you mean {either(near)}?" if near else "")
    text = ":".join([kind, *([owner] if owner else []), name]) + (f"+{offset}" if offset else "")
    return Probe(kind, (owner, name, offset), text)


#: functions for the injection of errors -> the option of the kernel's configuration that they come with (mm/failslab.c,
#: mm/fail_page_alloc.c, block/blk-core.c)
_INJECTION = {
    "should_failslab": "CONFIG_FAILSLAB",
    "should_fail_alloc_page": "CONFIG_FAIL_PAGE_ALLOC",
    "should_fail_bio": "CONFIG_FAIL_MAKE_REQUEST",
}
#: functions that newer compilers inline or that cannot be probed -> the tracepoint inside of them, with the same first argument (the
#: request): kernel commits 5a80bd075f3b (block_io_start, block_io_done; Linux 6.5) and a54895fa057c (block_rq_issue with the request
#: alone; 5.11)
_STAND_INS = {
    "blk_account_io_start": "block_io_start", "__blk_account_io_start": "block_io_start",
    "blk_account_io_done": "block_io_done", "__blk_account_io_done": "block_io_done", "blk_mq_start_request": "block_rq_issue",
}  # fmt: skip


def _stand_in(name: str) -> Probe | None:
    """The raw tracepoint that shows the same as the entry of a function, or None."""
    from ..probes.model import Probe

    event = _STAND_INS.get(name, "")
    if not event or not catalogue().has_tracepoint("block", event):
        return None
    known = catalogue().raw_tracepoint(event)
    if known is None or len(known.params) != 1:
        return None
    return Probe("rawtracepoint", (event,), f"rawtracepoint:{event}")


def _refuse_if_none_can_be(kind: str, what: str) -> None:
    """That a pattern matches nothing is fine, except on a kernel where no function can be probed at all."""
    from ..probes.model import Probe
    from ..probes.planner import plan, refusal

    (chosen,) = plan((Probe(kind, ("", "schedule", 0), f"{kind}:schedule"),), catalogue())
    if not chosen.attacher:
        raise attach_error(what, refusal(chosen))


def _names_in(places: tuple[Any, ...], names: list[str]) -> list[str]:
    """The functions that a link of several places serves."""
    words: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, str):
            words.add(value.rpartition(":")[2])
        elif isinstance(value, (tuple, list)):
            for one in value:
                look(one)

    for place in places:
        look(place.probe)
        look(place.target)
    return [name for name in names if name in words]


def event_name(letter: bytes, path: bytes, address: int, pid: int) -> bytes:
    """How BCC calls the event of a uprobe.

    >>> event_name(b"p", b"/bin/sh", 16, -1), event_name(b"r", b"/bin/sh", 16, 7)
    (b'p__bin_sh_0x10', b'r__bin_sh_0x10_7')
    """
    plain = "".join([char if char.isascii() and char.isalnum() else "_" for char in path.decode("latin-1")])
    name = b"%s_%s_0x%x" % (letter, plain.encode(), address)
    return name if pid == -1 else name + b"_%d" % pid
