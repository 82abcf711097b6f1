"""tracepoint: the static events of the kernel, ``tracepoint:CATEGORY:EVENT``.

A program sees the event's fields as ``args.NAME``: offsets are those of the event's format file, types are the kernel's own (BTF) where the
kernel has a struct for the event, else those of the format.  Pointers among the arguments of system calls point to user memory.
"""

from __future__ import annotations

from ...base.ctype import Int, Ptr
from ..model import Argument, Pattern, Probe, View
from .base import is_glob, matcher, near_names, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...base.ctype import CType
    from ...base.diagnostics import Span

__all__ = ("PROVIDERS", "Tracepoint")

_EXAMPLE = "tracepoint:sched:sched_switch"


class Tracepoint:
    """``tracepoint``, alias ``t``."""

    kind = "tracepoint"
    aliases = ("t",)
    attachers = ("tracepoint",)

    def parse(self, words: tuple[str, ...], span: Span | None) -> Pattern:
        if len(words) == 1 and is_glob(words[0]):
            words = (words[0], "*")
        require(self.kind, words, (2,), span, _EXAMPLE)
        return Pattern(self.kind, words, span)

    def expand(self, pattern: Pattern, catalogue: Any) -> tuple[Probe, ...]:
        category, event = pattern.words
        if not is_glob(category + event):
            found = [(category, event)] if catalogue.has_tracepoint(category, event) else []
        else:
            events: list[tuple[str, str]] = catalogue.tracepoints()
            categories = set(matcher(category, dict.fromkeys(c for c, _ in events)))
            names = set(matcher(event, [e for c, e in events if c in categories]))
            found = [(c, e) for c, e in events if c in categories and e in names]
        return tuple(Probe(self.kind, place, f"{self.kind}:{place[0]}:{place[1]}") for place in found)

    def near(self, pattern: Pattern, catalogue: Any) -> list[str]:
        category, event = pattern.words
        events = catalogue.tracepoints()
        if not is_glob(event):
            same = [f"{self.kind}:{c}:{e}" for c, e in events if e == event]
            if same:
                return same[:3]
            here = near_names(event, [e for c, e in events if c == category])
            if here:
                return [f"{self.kind}:{category}:{name}" for name in here]
        names = near_names(f"{category}:{event}", [f"{c}:{e}" for c, e in events])
        return [f"{self.kind}:{name}" for name in names]

    def view(self, probe: Probe, catalogue: Any) -> View:
        category, event = probe.name
        space = "user" if category == "syscalls" else "kernel"
        layout = catalogue.tracepoint(category, event)
        btf = catalogue.btf
        struct = btf.struct(f"trace_event_raw_{event}") if btf is not None else None
        args = []
        for field in layout.fields:
            if field.name.startswith("common_"):
                continue
            kind = field.ctype
            if not field.data_loc:
                kind = _better(kind, struct.member(field.name) if struct is not None else None, field)
                if space == "user" and isinstance(kind, Ptr):
                    kind = _user(kind)
            args.append(Argument(field.name, kind, field.offset, bool(field.data_loc)))
        return View(tuple(args), space=space)


def _better(kind: CType, member: Any, field: Any) -> CType:
    """The BTF type where it describes the same bytes; never a type larger than the field."""
    if member is not None and not member.bit_size and member.bit_offset == field.offset * 8 and member.type.size == field.size:
        found: CType = member.type
        return found
    if isinstance(kind.strip(), Int) and kind.size > field.size:
        return Int(f"{'s' if field.signed else 'u'}{field.size * 8}", field.size, bool(field.signed))
    return kind


def _user(pointer: Ptr) -> Ptr:
    return Ptr(lambda: pointer.target, pointer.size, "user")


PROVIDERS = (Tracepoint(),)
