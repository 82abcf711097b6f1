"""Names of perf events: software, hardware and cache events with the aliases of bpftrace and perf.

A table entry is pure data; whether the machine can count the event is another question (``kernel.features``: ``perf_hardware`` ...).

Example:
    >>> find_event("faults")
    Event(name='page-faults', type=1, config=2, period=100, aliases=('faults',), kind='software')
    >>> find_event("L1-dcache-load-misses").config == 0 | 0 << 8 | 1 << 16
    True
    >>> find_event("l1d-read-miss").name
    'L1-dcache-load-misses'
    >>> find_event("no-such-event") is None
    True
"""

from __future__ import annotations

from ..abi.perf_event import PERF_TYPE_HARDWARE, PERF_TYPE_HW_CACHE, PERF_TYPE_SOFTWARE
from ..base.record import Record

__all__ = ("Event", "SOFTWARE", "HARDWARE", "CACHE_TYPES", "CACHE_OPS", "CACHE_RESULTS", "cache_events", "find_event", "find_cache")


class Event(Record):
    """A perf event that has a fixed number in the kernel's interface.

    ``period`` is bpftrace's default number of occurrences per sample.  ``kind`` is "software", "hardware" or "cache".
    """

    name: str
    type: int
    config: int
    period: int = 1
    aliases: tuple[str, ...] = ()
    kind: str = "software"


def _software(name: str, config: int, period: int, *aliases: str) -> Event:
    return Event(name, PERF_TYPE_SOFTWARE, config, period, aliases, "software")


def _hardware(name: str, config: int, period: int, *aliases: str) -> Event:
    return Event(name, PERF_TYPE_HARDWARE, config, period, aliases, "hardware")


#: enum perf_sw_ids, in the order of its numbers.
SOFTWARE = (
    _software("cpu-clock", 0, 1_000_000, "cpu"),
    _software("task-clock", 1, 1_000_000),
    _software("page-faults", 2, 100, "faults"),
    _software("context-switches", 3, 1000, "cs"),
    _software("cpu-migrations", 4, 1, "migrations"),
    _software("minor-faults", 5, 100),
    _software("major-faults", 6, 1),
    _software("alignment-faults", 7, 1),
    _software("emulation-faults", 8, 1),
    _software("dummy", 9, 1),
    _software("bpf-output", 10, 1),
    _software("cgroup-switches", 11, 1),
)

#: enum perf_hw_id, in the order of its numbers.
HARDWARE = (
    _hardware("cpu-cycles", 0, 1_000_000, "cycles"),
    _hardware("instructions", 1, 1_000_000),
    _hardware("cache-references", 2, 1_000_000),
    _hardware("cache-misses", 3, 1_000_000),
    _hardware("branch-instructions", 4, 100_000, "branches"),
    _hardware("branch-misses", 5, 100_000),
    _hardware("bus-cycles", 6, 100_000),
    _hardware("stalled-cycles-frontend", 7, 1_000_000, "frontend-stalls", "idle-cycles-frontend"),
    _hardware("stalled-cycles-backend", 8, 1_000_000, "backend-stalls", "idle-cycles-backend"),
    _hardware("ref-cycles", 9, 1_000_000),
)

#: enum perf_hw_cache_id: perf's spelling first, then what else it understands.
CACHE_TYPES = (
    ("L1-dcache", "l1-d", "l1d", "L1-data"),
    ("L1-icache", "l1-i", "l1i", "L1-instruction"),
    ("LLC", "L2"),
    ("dTLB", "d-tlb", "Data-TLB"),
    ("iTLB", "i-tlb", "Instruction-TLB"),
    ("branch", "branches", "bpu", "btb", "bpc"),
    ("node",),
)

#: enum perf_hw_cache_op_id: (stem before a result, plural without one, other spellings...).
CACHE_OPS = (
    ("load", "loads", "read"),
    ("store", "stores", "write"),
    ("prefetch", "prefetches", "speculative-read", "speculative-load"),
)

#: enum perf_hw_cache_op_result_id.
CACHE_RESULTS = (("refs", "Reference", "ops", "access"), ("misses", "miss"))

# Operations that make sense for a cache: instructions are not stored, and TLBs and predictors of instructions are only read.
_CACHE_HAS = ((0, 1, 2), (0, 2), (0, 1, 2), (0, 1, 2), (0,), (0,), (0, 1, 2))


def cache_events() -> tuple[Event, ...]:
    """All cache events under the names that ``perf list`` prints ("LLC-loads", "LLC-load-misses", ...)."""
    found = []
    for number, names in enumerate(CACHE_TYPES):
        for op in _CACHE_HAS[number]:
            stem, plural = CACHE_OPS[op][:2]
            found.append(_cache(f"{names[0]}-{plural}", number, op, 0))
            # "prefetch-misses", "load-misses": the stem is the singular.
            found.append(_cache(f"{names[0]}-{stem}-misses", number, op, 1))
    return tuple(found)


def _cache(name: str, number: int, op: int, result: int) -> Event:
    return Event(name, PERF_TYPE_HW_CACHE, number | op << 8 | result << 16, 1_000_000, (), "cache")


def find_cache(name: str) -> Event | None:
    """A cache event by any spelling perf understands: TYPE[-OP][-RESULT] in either order of OP and RESULT; the default is a read access."""
    wanted = name.lower()
    for number, names in enumerate(CACHE_TYPES):
        for spelling in sorted(names, key=len, reverse=True):
            low = spelling.lower()
            if wanted != low and not wanted.startswith(low + "-"):
                continue
            rest = wanted[len(low) + 1 :]
            op: int | None = None
            result: int | None = None
            while rest:
                taken = ""
                for table, which in ((CACHE_OPS, "op"), (CACHE_RESULTS, "result")):
                    for index, words in enumerate(table):
                        for word in words:
                            word = word.lower()
                            fits = rest == word or rest.startswith(word + "-")
                            free = op is None if which == "op" else result is None
                            if fits and free and len(word) > len(taken):
                                taken, kind, value = word, which, index
                if not taken:
                    break
                if kind == "op":
                    op = value
                else:
                    result = value
                rest = rest[len(taken) + 1 :]
            if rest:
                continue
            op, result = op or 0, result or 0
            if op not in _CACHE_HAS[number]:
                return None
            stem, plural = CACHE_OPS[op][:2]
            return _cache(f"{names[0]}-{stem}-misses" if result else f"{names[0]}-{plural}", number, op, result)
    return None


def find_event(name: str) -> Event | None:
    """A software, hardware or cache event by name or alias; None if there is none (it may still be a PMU's: ``perf_event_pmu``)."""
    for event in (*SOFTWARE, *HARDWARE):
        if name == event.name or name in event.aliases:
            return event
    return find_cache(name)
