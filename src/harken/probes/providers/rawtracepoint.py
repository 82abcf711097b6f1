"""rawtracepoint: the arguments of a tracepoint as the kernel's code passes them, ``rawtracepoint:EVENT``.

No record is formatted, so this is the cheapest event of the kernel.  ``arg0`` ... are the arguments; with BTF they have types, and names
where the kernel kept them (``args.NAME``).  ``rawtracepoint:MODULE:EVENT`` is accepted; the module does not matter to the kernel.
"""

from __future__ import annotations

from ..model import Argument, Pattern, Probe, View
from .base import is_glob, matcher, near_names, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...base.diagnostics import Span

__all__ = ("PROVIDERS", "RawTracepoint")

#: A raw tracepoint passes at most this many arguments (kernel: include/trace/bpf_probe.h, CAST_TO_U64 up to 12).
_MOST = 12


class RawTracepoint:
    """``rawtracepoint``, alias ``rt``."""

    kind = "rawtracepoint"
    aliases = ("rt",)
    attachers = ("tp_btf", "raw_tracepoint")

    def parse(self, words: tuple[str, ...], span: Span | None) -> Pattern:
        require(self.kind, words, (1, 2), span, "rawtracepoint:sched_switch")
        return Pattern(self.kind, words, span)

    def expand(self, pattern: Pattern, catalogue: Any) -> tuple[Probe, ...]:
        event = pattern.words[-1]
        prefix = ":".join((self.kind, *pattern.words[:-1]))
        if is_glob(event):
            names = matcher(event, catalogue.raw_tracepoints())
        else:
            names = [event] if catalogue.has_raw_tracepoint(event) else []
        return tuple(Probe(self.kind, (name,), f"{prefix}:{name}") for name in names)

    def near(self, pattern: Pattern, catalogue: Any) -> list[str]:
        event = pattern.words[-1]
        names = catalogue.raw_tracepoints()
        if not is_glob(event):
            for prefix in ("sys_enter_", "sys_exit_"):
                if event.startswith(prefix) and prefix[:-1] in names:
                    return [f"rawtracepoint:{prefix[:-1]}", f"tracepoint:syscalls:{event}"]
        return [f"{self.kind}:{name}" for name in near_names(event, names)]

    def view(self, probe: Probe, catalogue: Any) -> View:
        known = catalogue.raw_tracepoint(probe.name[0])
        if known is None:
            return View(positional=_MOST)
        args = tuple(Argument(name, kind, index) for index, (name, kind) in enumerate(known.params))
        return View(args, positional=len(args), arity=len(args))


PROVIDERS = (RawTracepoint(),)
