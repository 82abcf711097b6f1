"""Searching the catalogue: the library face of ``harken list`` (and of the language's ``-l``).

``search`` yields plain values, one group per kind: ``("tracepoint", ["tracepoint:sched:sched_switch", ...])``; ``description.describe``
tells what is behind one of these texts.

Patterns are bpftrace's:

==========================  ==========================================================================================
``kind:rest``               ``*`` matches any run of characters, ``:`` among them; kind may have wildcards or be an alias (``t:sched:*``)
``kind`` or an alias        everything of this kind
one word with ``*``         whatever has a part that matches, of any kind
one word                    whatever has this word as a part; if nothing has, whatever contains it
``struct x``, ``union x``, ``enum x``  types of the kernel's BTF, with wildcards
``uprobe:BINARY:SYMBOL``, ``usdt:BINARY:[PROVIDER:]NAME``  BINARY is a path, a pattern, a program of PATH or a library ("libc")
``uprobe:BINARY:/REGEX/``, ``uprobe:BINARY:cpp:NAME``  functions as ``providers.functions`` chooses them
==========================  ==========================================================================================

A process (``pid``) adds the functions and markers of the files it has mapped.

Example:
    >>> from harken.kernel.kernel import live
    >>> from harken.probes.catalogue import Catalogue
    >>> list(search(Catalogue(live()), "software:page-faults"))
    [('software', ['software:page-faults:'])]
"""

from __future__ import annotations

from ..base.errors import HarkenError, UsageError
from ..base.glob import compiled, is_glob, matches, select
from .description import TYPES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .catalogue import Catalogue

    Group = tuple[str, list[str]]

__all__ = ("KINDS", "ALIASES", "search", "near")

#: Spellings of kinds: bpftrace's aliases, older names, and words that perf and trace-cmd use.
ALIASES = {
    "t": "tracepoint",
    "rt": "rawtracepoint",
    "k": "kprobe",
    "kr": "kretprobe",
    "f": "fentry",
    "kfunc": "fentry",
    "fr": "fexit",
    "kretfunc": "fexit",
    "u": "uprobe",
    "ur": "uretprobe",
    "U": "usdt",
    "s": "software",
    "sw": "software",
    "h": "hardware",
    "hw": "hardware",
    "p": "profile",
    "i": "interval",
    "it": "iter",
    "w": "watchpoint",
    "event": "tracepoint",
    "sdt": "usdt",
    "hwcache": "cache",
}

#: Units of timers, and how long an interval is.
_UNITS = ("hz", "us", "ms", "s")
#: What perf counts by itself around a command, without a kernel event.
_TOOL = ("duration_time", "user_time", "system_time")
#: Forms of events that cannot be enumerated.
_RAW = ("rNNN", "PMU/TERM=VALUE,.../MODIFIER")
_MAX_BINARIES = 256


def _tracepoints(catalogue: Catalogue) -> list[str]:
    return [f"{category}:{name}" for category, name in catalogue.tracepoints()]


def _functions(catalogue: Catalogue) -> list[str]:
    return [f"{module}:{name}" if module else name for name, module in dict.fromkeys(catalogue.functions())]


def _described_functions(catalogue: Catalogue) -> list[str]:
    """Functions that fentry can take: traceable and known to BTF."""
    known: dict[str, frozenset[str]] = {}
    found = []
    for name, module in dict.fromkeys(catalogue.functions()):
        names = known.get(module)
        if names is None:
            names = known[module] = catalogue.described(module)
        if name in names:
            found.append(f"{module}:{name}" if module else name)
    return found


def _software(catalogue: Catalogue) -> list[str]:
    from ..kernel.perf_event_names import SOFTWARE

    return [f"{name}:" for event in SOFTWARE for name in (event.name, *event.aliases)]


def _hardware(catalogue: Catalogue) -> list[str]:
    from ..kernel.perf_event_names import HARDWARE

    return [f"{name}:" for event in HARDWARE for name in (event.name, *event.aliases)]


def _cache(catalogue: Catalogue) -> list[str]:
    from ..kernel.perf_event_names import cache_events

    return [f"{event.name}:" for event in cache_events()]


def _pmu(catalogue: Catalogue) -> list[str]:
    from ..kernel.perf_event_pmu import pmus

    return [f"{unit.name}/{event}/" for unit in pmus(catalogue.kernel) for event, _ in unit.events]


def _tracers(catalogue: Catalogue) -> list[str]:
    return sorted(catalogue.tracefs.tracers())


def _options(catalogue: Catalogue) -> list[str]:
    found = set(catalogue.tracefs.options())
    try:  # tracers' own options stand only here, unless their tracer is the current one
        found.update(catalogue.kernel.listdir(catalogue.tracefs.path("options")))
    except OSError:
        pass
    return sorted(found)


def _ftrace(catalogue: Catalogue) -> list[str]:
    """Records that tracers themselves write (``ftrace:function``, ``ftrace:print``): they have formats but are no tracepoints."""
    folder = catalogue.tracefs.path("events/ftrace")
    return sorted(name for name in catalogue.kernel.listdir(folder) if catalogue.kernel.exists(f"{folder}/{name}/format"))


def _clocks(catalogue: Catalogue) -> list[str]:
    return list(catalogue.tracefs.clocks()[0])


#: Kinds that are listed without being named, and where their names come from.
KINDS: dict[str, Callable[[Catalogue], list[str]]] = {
    "tracepoint": _tracepoints,
    "rawtracepoint": lambda catalogue: catalogue.raw_tracepoints(),
    "kprobe": _functions,
    "fentry": _described_functions,
    "iter": lambda catalogue: catalogue.iterators(),
    "software": _software,
    "hardware": _hardware,
    "cache": _cache,
    "pmu": _pmu,
    "tool": lambda catalogue: list(_TOOL),
    "raw": lambda catalogue: list(_RAW),
    "watchpoint": lambda catalogue: ["ADDRESS:LENGTH:MODE"],
    "profile": lambda catalogue: [f"{unit}:" for unit in _UNITS],
    "interval": lambda catalogue: [f"{unit}:" for unit in _UNITS],
    "tracer": _tracers,
    "ftrace": _ftrace,
    "option": _options,
    "clock": _clocks,
}
#: Kinds that share another's names and are listed only when they are named.
_TWINS = {"kretprobe": "kprobe", "fexit": "fentry"}
_FILES = ("uprobe", "uretprobe", "usdt")


def search(catalogue: Catalogue, pattern: str = "", pid: int = -1) -> Iterator[Group]:
    """All that matches.

    Args:
        catalogue: where to look.
        pattern: see the module; "" for everything (without the functions of binaries).
        pid: also list the functions and USDT markers of this process, > 0.

    Yields:
        (kind, texts), texts being complete probe specifications in the kernel's order.  A source that this user may not read, or
        that this kernel lacks, yields nothing, unless the pattern names its kind.

    Raises:
        KernelError, ProbeError, FormatError: the source that the pattern names cannot be read.
        UsageError: an unknown kind.
    """
    pattern = pattern.strip()
    words = pattern.split()
    if words and words[0] in TYPES and len(words) <= 2:
        yield from _search_types(catalogue, words[0], words[1] if len(words) > 1 else "*")
        return
    kind, colon, rest = pattern.partition(":")
    if not colon:
        yield from _search_word(catalogue, pattern, pid)
        return
    kinds = _kinds(kind)
    if not kinds:
        raise UsageError(f"{kind!r} is no kind of probe", f"kinds are {', '.join((*KINDS, *_TWINS, *_FILES))}")
    for name in kinds:
        if name in _FILES:
            yield from _search_files(catalogue, name, rest, pid)
        else:
            names = _names(catalogue, name, named=not is_glob(kind))
            found = [f"{name}:{text}" for text in _select(name, rest, names)]
            if found:
                yield name, found


def _kinds(word: str) -> list[str]:
    """The kinds that the word before the first colon means."""
    if is_glob(word):
        return [kind for kind in KINDS if matches(word.lower(), kind)]
    word = ALIASES.get(word, word.lower())
    return [word] if word in KINDS or word in _TWINS or word in _FILES else []


def _names(catalogue: Catalogue, kind: str, named: bool) -> list[str]:
    try:
        return KINDS[_TWINS.get(kind, kind)](catalogue)
    except (HarkenError, OSError):
        if named:
            raise
        return []


def _select(kind: str, pattern: str, names: list[str]) -> list[str]:
    """Names that match the part of a pattern after the kind."""
    pattern = pattern.rstrip(":") if not pattern.endswith("*:") else pattern[:-1]
    if pattern in ("", "*"):
        return names
    if kind in ("kprobe", "kretprobe", "fentry", "fexit") and ":" in pattern:
        module, _, function = pattern.rpartition(":")
        fits, wanted = compiled(module), compiled(function)
        found = []
        for name in names:
            owner, _, plain = name.rpartition(":")
            if wanted(plain) and fits(owner or "vmlinux"):
                found.append(name)
        return found
    if kind == "rawtracepoint" and ":" in pattern:
        pattern = pattern.rpartition(":")[2]
    if names and names[0].endswith(":"):
        fits = compiled(pattern)
        return [name for name in names if fits(name[:-1])]
    if kind in ("kprobe", "kretprobe", "fentry", "fexit"):  # a module's function is found without its module
        fits = compiled(pattern)
        return [name for name in names if fits(name.rpartition(":")[2])]
    return select(pattern, names)


def _search_word(catalogue: Catalogue, word: str, pid: int) -> Iterator[Group]:
    kinds = [] if is_glob(word) or not word else _kinds(word)
    if kinds and word not in ("p", "i", "k", "t", "u", "s", "h", "w", "f", "U"):
        for kind in kinds:
            if kind in _FILES:
                yield from _search_files(catalogue, kind, "*", pid)
                continue
            names = _names(catalogue, kind, named=True)
            if names:
                yield kind, [f"{kind}:{name}" for name in names]
        return
    everything = [(kind, _names(catalogue, kind, named=False)) for kind in KINDS]
    if pid > 0:
        for kind in ("uprobe", "usdt"):
            prefix = len(kind) + 1
            everything += [(name, [text[prefix:] for text in texts]) for name, texts in _search_files(catalogue, kind, "*", pid)]
    groups = [(kind, names) for kind, names in everything if names]
    if word in ("", "*"):
        yield from ((kind, [f"{kind}:{name}" for name in names]) for kind, names in groups)
        return
    found = [(kind, _with_part(word, names)) for kind, names in groups]
    if not is_glob(word) and not any(names for _, names in found):
        found = [(kind, select(f"*{word}*", names)) for kind, names in groups]
    yield from ((kind, [f"{kind}:{name}" for name in names]) for kind, names in found if names)


def _with_part(pattern: str, names: list[str]) -> list[str]:
    """Names one of whose parts (between colons) matches."""
    body = pattern.strip("*")
    longest = max(body.split("*"), key=len)
    fits = compiled(pattern)
    # nearly all names fail the substring test, which is ten times faster than looking at parts
    return [name for name in names if longest in name and (fits(name) or any(map(fits, name.replace("/", ":").split(":"))))]


def _search_types(catalogue: Catalogue, kind: str, pattern: str) -> Iterator[Group]:
    btf = catalogue.btf
    if btf is None:
        raise UsageError(f"this kernel's types are not known: {catalogue.btf_reason}")
    if is_glob(pattern):
        found = sorted(dict.fromkeys(select(pattern, _type_names(catalogue, kind))))
    else:
        found = [pattern] if btf.id_of(pattern, kind) is not None else []
    if found:
        yield kind, [f"{kind} {name}" for name in found]


def _type_names(catalogue: Catalogue, kind: str) -> list[str]:
    if catalogue.btf is None:
        return []
    return list(catalogue.btf.names("enum", "enum64") if kind == "enum" else catalogue.btf.names(kind))


def _search_files(catalogue: Catalogue, kind: str, rest: str, pid: int) -> Iterator[Group]:
    """Functions or markers of binaries: ``rest`` is "BINARY:SYMBOL", "BINARY", or for usdt "BINARY:PROVIDER:NAME"."""
    from .providers.functions import choose, is_regex

    binary, parts = _split_binary(rest)
    if binary in ("", "*"):
        if pid <= 0:
            raise UsageError(f"{kind} needs a binary or a process", f"harken list '{kind}:/bin/bash:*', or -p PID with {kind}:*")
        paths = catalogue.process_binaries(pid)
    else:
        paths = catalogue.binaries(binary, pid)
        if not paths:
            raise UsageError(f"there is no program or library {binary}", "give a path, a program of PATH, or a library such as libc")
    many = len(paths) > 1
    for path in paths[:_MAX_BINARIES]:
        try:
            elf = catalogue.binary(path)
            if kind == "usdt":
                wanted = (parts[0] if len(parts) > 1 else "*", parts[-1] if parts else "*")
                marks = dict.fromkeys((mark.provider, mark.name) for mark in elf.stapsdt())
                found = [f"{kind}:{path}:{p}:{n}" for p, n in marks if matches(wanted[0], p) and matches(wanted[1], n)]
            else:
                target, cpp = parts[-1] if parts else "*", parts[:1] == ["cpp"] and len(parts) > 1
                chosen = choose(elf, target, cpp, None) if cpp or is_regex(target) else elf.functions()
                names = dict.fromkeys(name for name, _, _ in chosen)
                found = [f"{kind}:{path}:{name}" for name in (names if cpp or is_regex(target) else select(target, names))]
        except HarkenError:
            if many:  # a pattern over a folder meets scripts and data
                continue
            raise
        if found:
            yield kind, found


def _split_binary(rest: str) -> tuple[str, list[str]]:
    """Splits "PATH:A:B"; a path with colons is quoted: ``"/opt/a:b":A``."""
    if rest.startswith('"'):
        path, _, tail = rest[1:].partition('"')
        return path, [part for part in tail.lstrip(":").split(":") if part]
    path, colon, tail = rest.partition(":")
    if tail.startswith("cpp:"):
        return path, ["cpp", tail[4:].strip('"')]
    if tail.startswith("/"):
        return path, [tail]
    return path, [part for part in tail.split(":") if part]


def near(catalogue: Catalogue, pattern: str) -> list[str]:
    """Texts like a pattern that matched nothing, best first."""
    from .providers.base import near_names

    type, _, wanted = pattern.strip().partition(" ")
    if type in TYPES and wanted:
        return [f"{type} {name}" for name in near_names(wanted, _type_names(catalogue, type))]
    kind, colon, rest = pattern.partition(":")
    found: list[str] = []
    for name in _kinds(kind) if colon else list(KINDS):
        if name in KINDS or name in _TWINS:
            wanted = rest if colon else pattern
            names = _names(catalogue, name, named=False)
            found += [f"{name}:{text}" for text in near_names(wanted, names)]
    return found[:3]
