"""Events of the PMUs in ``/sys/bus/event_source/devices`` and perf's way of writing events.

Each PMU has a ``type`` number, ``format/`` files that say which bits of config, config1 ... a term fills ("umask": "config:8-15") and
``events/`` files with named sets of terms ("event=0x3c,umask=0x01").  ``parse_event`` understands what perf does: names and
aliases, ``pmu/terms/``, raw ``rNNN``, ``mem:ADDRESS[/LENGTH][:MODE]``, each with modifiers (``:u``, ``:k``, ``:ppp`` ...).
"""

from __future__ import annotations

from ..abi import perf_event as abi
from ..base.errors import FormatError, ProbeError
from ..base.record import Record
from .perf_event import Attr, breakpoint_at
from .perf_event_names import find_event
from .procfs import parse_cpu_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .kernel import Kernel

__all__ = ("Pmu", "Term", "parse_format", "encode_terms", "pmus", "pmu", "event_scale", "parse_event")

_ROOT = "/sys/bus/event_source/devices"
_CONFIGS = ("config", "config1", "config2", "config3")
_FILE_LIMIT = 4096


class Term(Record):
    """Where a term's value goes: bits of one of the config words, lowest value bit first."""

    word: str
    bits: tuple[int, ...]


class Pmu(Record):
    """A PMU: ``formats`` and ``events`` are sorted pairs (name, text of the file)."""

    name: str
    type: int
    cpus: tuple[int, ...] = ()
    formats: tuple[tuple[str, str], ...] = ()
    events: tuple[tuple[str, str], ...] = ()


def parse_format(text: str) -> Term:
    """A ``format/`` file.

    Raises:
        FormatError

    Example:
        >>> parse_format("config:0-3,32-33\\n")
        Term(word='config', bits=(0, 1, 2, 3, 32, 33))
    """
    word, colon, places = text.strip().partition(":")
    bits: list[int] = []
    try:
        for part in places.split(","):
            low, dash, high = part.partition("-")
            first, last = int(low), int(high) if dash else int(low)
            if not 0 <= first <= last <= 63:
                raise ValueError
            bits.extend(range(first, last + 1))
    except ValueError:
        bits = []
    if word not in _CONFIGS or not colon or not bits or len(bits) > 64:
        raise FormatError("a PMU's format", f"cannot understand {text.strip()[:80]!r}")
    return Term(word, tuple(bits))


def encode_terms(unit: Pmu, terms: str) -> dict[str, int]:
    """Values of the config words for terms such as "event=0x3c,umask=1" or the name of one of the PMU's events.

    Besides the PMU's own terms, perf's general ones are understood: config, config1, config2, config3 and period.  ``name``, ``scale``
    and ``unit`` name the result and change nothing.

    Raises:
        ProbeError: a term or event does not exist, or a value is too large for its bits.
    """
    words: dict[str, int] = {}
    _encode(unit, terms, words, 0)
    return words


def _encode(unit: Pmu, terms: str, words: dict[str, int], depth: int) -> None:
    formats = dict(unit.formats)
    events = dict(unit.events)
    for part in terms.strip().split(","):
        name, equals, text = part.strip().partition("=")
        if not name or name in ("name", "scale", "unit"):
            continue
        if not equals and name in events and depth == 0:
            _encode(unit, events[name], words, 1)
            continue
        try:
            value = int(text, 0) if equals else 1
            if value < 0:
                raise ValueError
        except ValueError:
            raise ProbeError(f"{unit.name}/{terms.strip()}/: {text!r} is not a number that {name} can have") from None
        if name in (*_CONFIGS, "period"):
            words[name] = value
            continue
        if name not in formats:
            known = ", ".join(sorted({*events, *formats})[:30])
            raise ProbeError(f"the PMU {unit.name} has no event or term {name!r}", f"it has: {known}" if known else "it has none at all")
        term = parse_format(formats[name])
        if value >> len(term.bits):
            raise ProbeError(f"{unit.name}/{terms.strip()}/: {name} has {len(term.bits)} bits, {text} does not fit")
        word = words.get(term.word, 0)
        for index, bit in enumerate(term.bits):
            word = word & ~(1 << bit) | (value >> index & 1) << bit
        words[term.word] = word


def _folder(kernel: Kernel, path: str) -> list[str]:
    try:
        return sorted(kernel.listdir(path))
    except OSError:
        return []


def _read(kernel: Kernel, path: str) -> str | None:
    try:
        return kernel.read(path, _FILE_LIMIT).decode("utf-8", "replace").strip()
    except OSError:
        return None


def pmu(kernel: Kernel, name: str) -> Pmu | None:
    """One PMU with its terms and events, or None."""
    if not name or "/" in name or name.startswith("."):
        return None
    text = _read(kernel, f"{_ROOT}/{name}/type")
    try:
        number = int(text or "")
    except ValueError:
        return None
    formats = tuple((term, _read(kernel, f"{_ROOT}/{name}/format/{term}") or "") for term in _folder(kernel, f"{_ROOT}/{name}/format"))
    events = tuple(
        (event, _read(kernel, f"{_ROOT}/{name}/events/{event}") or "")
        for event in _folder(kernel, f"{_ROOT}/{name}/events")
        if not event.endswith((".scale", ".unit", ".per-pkg", ".snapshot"))
    )
    cpus: tuple[int, ...] = ()
    for file in ("cpumask", "cpus"):
        try:
            cpus = parse_cpu_list(_read(kernel, f"{_ROOT}/{name}/{file}") or "")
        except ValueError:
            continue
        if cpus:
            break
    return Pmu(name, number, cpus, formats, events)


def pmus(kernel: Kernel) -> list[Pmu]:
    """All PMUs in alphabetical order."""
    found = (pmu(kernel, name) for name in _folder(kernel, _ROOT))
    return [unit for unit in found if unit is not None]


def event_scale(kernel: Kernel, unit: str, event: str) -> tuple[float, str]:
    """What a count of a PMU's event means: (factor, unit), (1.0, "") when it counts occurrences."""
    text = _read(kernel, f"{_ROOT}/{unit}/events/{event}.scale")
    try:
        scale = float(text) if text else 1.0
    except ValueError:
        scale = 1.0
    return scale, _read(kernel, f"{_ROOT}/{unit}/events/{event}.unit") or ""


def parse_event(kernel: Kernel, text: str) -> Attr:
    """An event in perf's notation as an ``Attr`` without period (unless a term sets it) and with flag "disabled".

    Raises:
        ProbeError: there is no such event.
    """
    name, modifiers = _split_modifiers(text)
    attr = _event(kernel, name)
    return _modified(attr, modifiers, text) if modifiers else attr


def _split_modifiers(text: str) -> tuple[str, str]:
    text = text.strip()
    if text.endswith("/"):
        return text, ""
    head, slash, tail = text.rpartition("/")
    if slash and head.count("/") == 1 and not text.startswith("mem:"):
        return head + "/", tail.lstrip(":")
    name, colon, tail = text.rpartition(":")
    if not colon or not tail or not set(tail) <= set("ukhGHpPISDWeb"):
        return text, ""
    if text.startswith("mem:") and (text.count(":") == 2 and set(tail) <= set("rwx")):
        return text, ""
    return name, tail


def _event(kernel: Kernel, name: str) -> Attr:
    if name.startswith("mem:"):
        return _memory(name)
    unit_name, slash, terms = name.partition("/")
    if slash:
        unit = pmu(kernel, unit_name)
        if unit is None:
            have = ", ".join(_folder(kernel, _ROOT))
            raise ProbeError(f"there is no PMU {unit_name!r} on this machine", f"it has: {have}" if have else "")
        words = encode_terms(unit, terms.rstrip("/"))
        return _attr(unit.type, words)
    known = find_event(name)
    if known is not None:
        return Attr(known.type, known.config)
    if len(name) > 1 and name[0] == "r" and len(name) <= 17:
        try:
            return Attr(abi.PERF_TYPE_RAW, int(name[1:], 16))
        except ValueError:
            pass
    unit = pmu(kernel, "cpu")  # the CPU's own events may be written without the PMU's name
    if unit is not None and name in dict(unit.events):
        words = encode_terms(unit, name)
        return _attr(unit.type, words)
    raise ProbeError(f"no perf event is called {name!r}", "'harken list' shows software, hardware, cache and PMU events")


def _attr(number: int, words: dict[str, int]) -> Attr:
    get = words.get
    return Attr(number, get("config", 0), get("config1", 0), get("config2", 0), get("config3", 0), get("period", 0))


def _memory(name: str) -> Attr:
    address, _, mode = name[4:].partition(":")
    place, _, size = address.partition("/")
    try:
        return breakpoint_at(int(place, 0), int(size, 0) if size else 4, mode or "rw")
    except ValueError:
        raise ProbeError(f"{name!r} is not a breakpoint", "write mem:0xADDRESS[/LENGTH][:rwx]") from None


def _modified(attr: Attr, modifiers: str, text: str) -> Attr:
    """perf's modifiers: naming any of u, k, h excludes the levels that are not named; p raises precise_ip; G and H choose guest or host."""
    flags = list(attr.flags)
    levels = {"u": "exclude_user", "k": "exclude_kernel", "h": "exclude_hv"}
    if set(modifiers) & set(levels):
        flags += [flag for letter, flag in levels.items() if letter not in modifiers]
    if "G" in modifiers and "H" not in modifiers:
        flags.append("exclude_host")
    if "H" in modifiers and "G" not in modifiers:
        flags.append("exclude_guest")
    if "I" in modifiers:
        flags.append("exclude_idle")
    if "D" in modifiers:
        flags.append("pinned")
    if "e" in modifiers:
        flags.append("exclusive")
    precise = modifiers.count("p")
    if precise > 3:
        raise ProbeError(f"{text!r}: precise_ip goes up to 3", "write at most :ppp")
    return attr.replace(flags=tuple(flags), precise=precise)
