"""Probe kinds: one file per kind, found by name or alias.

``PROVIDERS`` maps every kind and alias, in lower case, to its provider; looking one up imports only that file.

Three functions cover what a front end does with a probe:

>>> pattern = parse('t:syscalls:sys_enter_open*')
>>> pattern.kind, pattern.words
('tracepoint', ('syscalls', 'sys_enter_open*'))

``resolve(pattern, catalogue)`` gives the probes, or a SourceError that says what looks alike; ``view(probe, catalogue)`` says what a
program sees there.
"""

from __future__ import annotations

from ..model import Pattern
from .base import either, fail, unquote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ...base.diagnostics import Span
    from ..model import Probe, Provider, View

__all__ = ("PROVIDERS", "KINDS", "MAX_PROBES", "split", "parse", "resolve", "view")

#: The most probes of one program text unless configured otherwise (bpftrace's ``max_probes``).
MAX_PROBES = 1024

#: kind -> (module, aliases)
_TABLE: dict[str, tuple[str, tuple[str, ...]]] = {
    "BEGIN": ("special", ()),
    "END": ("special", ()),
    "tracepoint": ("tracepoint", ("t",)),
    "rawtracepoint": ("rawtracepoint", ("rt",)),
    "kprobe": ("kprobe", ("k",)),
    "kretprobe": ("kprobe", ("kr",)),
    "fentry": ("fentry", ("f", "kfunc")),
    "fexit": ("fentry", ("fr", "kretfunc")),
    "uprobe": ("uprobe", ("u",)),
    "uretprobe": ("uprobe", ("ur",)),
    "usdt": ("usdt", ("U",)),
    "profile": ("timer", ("p",)),
    "interval": ("timer", ("i",)),
    "software": ("event", ("s",)),
    "hardware": ("event", ("h",)),
}

#: Every kind, as it is shown.
KINDS = tuple(_TABLE)


class _Providers:
    """A read-only mapping that imports a provider when it is asked for.

    Kinds are case-insensitive; ``U`` (usdt) and ``u`` (uprobe) are the only names that case tells apart.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {"U": "usdt"}
        for kind, (_, aliases) in _TABLE.items():
            for name in (kind, *aliases):
                if name != "U":
                    self._names[name.lower()] = kind
        self._loaded: dict[str, Provider] = {}

    def kind(self, name: str) -> str | None:
        """The kind that a name or alias stands for, or None."""
        return self._names.get(name) or self._names.get(name.lower())

    def __getitem__(self, name: str) -> Provider:
        kind = self.kind(name)
        if kind is None:
            raise KeyError(name)
        if kind not in self._loaded:
            module = __import__(f"{__name__}.{_TABLE[kind][0]}", fromlist=("PROVIDERS",))
            for provider in module.PROVIDERS:
                self._loaded[provider.kind] = provider
        return self._loaded[kind]

    def get(self, name: str, default: Provider | None = None) -> Provider | None:
        return self[name] if self.kind(name) is not None else default

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.kind(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def keys(self) -> Iterator[str]:
        return iter(self._names)


PROVIDERS = _Providers()


def split(text: str) -> tuple[str, ...]:
    """The parts of a probe; quotes keep ``:`` together and are taken off.

    >>> split('uprobe:"/opt/a:b":main')
    ('uprobe', '/opt/a:b', 'main')
    >>> split(r'uprobe:bash:"/^f\\(a, b\\)/"')
    ('uprobe', 'bash', '/^f\\\\(a, b\\\\)/')
    """
    words, word, quoted, escaped = [], "", False, False
    for char in text:
        if escaped:  # other backslashes belong to regular expressions
            word, escaped = word + (char if char in '"\\' else "\\" + char), False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == ":" and not quoted:
            words.append(word)
            word = ""
        else:
            word += char
    return (*words, word)


def parse(text: str | tuple[str, ...], span: Span | None = None) -> Pattern:
    """A probe in the user's words as a pattern.

    Args:
        text: "kprobe:vfs_*", or its parts already split.
        span: where it stands, for errors.

    Raises:
        SourceError: no such kind, or the kind refuses its parts.
    """
    kind, *words = split(text) if isinstance(text, str) else text
    provider = PROVIDERS.get(kind)
    if provider is None:
        close = _near_kinds(kind)
        hint = f"did you mean {either(close)}?" if close else f"the probe types are {', '.join(KINDS)}"
        fail(f"Invalid probe type: {kind}", span, hint)
    return provider.parse(tuple(unquote(word) for word in words), span)


def _near_kinds(kind: str) -> list[str]:
    from ...base.diagnostics import nearest

    names = {name.lower(): name for name in (*KINDS, "kfunc", "kretfunc")}
    return [names[name] for name in nearest(kind.lower(), names, 2)]


def resolve(pattern: Pattern, catalogue: Any, limit: int = MAX_PROBES, pid: int = -1) -> tuple[Probe, ...]:
    """All probes of a pattern.

    Args:
        pattern: from ``parse``.
        catalogue: a ``probes.catalogue.Catalogue``.
        limit: the most probes that are accepted.
        pid: the process that tracing is limited to, -1 for none; ``uprobe:*:FUNCTION`` then means its own files.

    Raises:
        SourceError: nothing matches (the hint has near names), or more than ``limit`` do.
    """
    provider = PROVIDERS[pattern.kind]
    if pid >= 0:
        pattern = pattern.replace(pid=pid)
    probes = provider.expand(pattern, catalogue)
    if not probes:
        near = provider.near(pattern, catalogue)
        place = f"{pattern.words[0]}:" if len(pattern.words) > 1 and "/" in pattern.words[0] else ""
        hint = f"did you mean {either(near)}?" if near else f"`harken list '{pattern.kind}:{place}*'` shows what there is"
        fail(f"No matches for {pattern.kind} {':'.join(pattern.words)}.", pattern.span, hint)
    if len(probes) > limit:
        fail(
            f"Can't attach to {len(probes)} probes because it exceeds the current limit of {limit} probes.",
            pattern.span,
            "make the pattern narrower, or raise max_probes: many probes at once can slow the whole system down",
        )
    return probes


def view(probe: Probe, catalogue: Any) -> View:
    """What a program sees at a probe."""
    return PROVIDERS[probe.kind].view(probe, catalogue)
