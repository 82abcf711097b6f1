"""Unit: what a front end and the back end together hand to a session, as plain data that can be cached or sent elsewhere.

A front end is pure given its environment; it returns a Unit.  The session loads ``spec``, then reads records from ``ring``: each
starts with a u64 event id that indexes ``events``.
"""

from __future__ import annotations

from ..base.record import Record
from ..base.schema import Schema
from ..formats.spec import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Event", "Table", "Unit", "RING", "LOSS", "GATE")

#: Names of the maps that the compiler itself adds.  The gate's one value is 0 until ``exit()`` was called: then probes do nothing any more.
RING, LOSS, GATE = "harken_ring", "harken_loss", "harken_gate"


class Event(Record):
    """What to do with one kind of record.

    ``action`` is the verb ("printf", "print_map", "print_value", "clear", "zero", "exit", "time", "join", "cat", ...);
    ``args`` is the verb's own
    plain data (a format string, a map's name); ``schema`` lays out the record with the u64 id at offset 0.
    ``position`` is "name:line:column-column" in the user's source.
    """

    action: str
    args: tuple[Any, ...]
    schema: Schema
    position: str = ""


class Table(Record):
    """A map that the user sees.

    ``name`` is the user's ("@", "@reads"); ``map`` the MapSpec's; ``key`` and ``value`` lay out key and value; a scalar
    map has no key fields.
    ``kind`` is the aggregation: "value", "count", "sum", "avg", "min", "max", "stats", "hist", "lhist".  ``params`` are the aggregation's
    constants (lhist: min, max, step).  ``per_cpu`` tells whether a lookup gives a value per CPU.
    """

    name: str
    map: str
    kind: str
    key: Schema
    value: Schema
    per_cpu: bool = False
    params: tuple[int, ...] = ()


class Unit(Record):
    """A compiled program.

    ``losses`` names the slots of the per-CPU array ``LOSS`` in order, as (kind, subject) pairs.
    ``runs`` lists (when, program name) of programs that the session itself runs: when is "begin" or "end".
    ``plan`` explains each probe: (probe, mechanism, reason, ((mechanism not taken, why), ...)).
    ``depends`` lists what the result depends on besides the source, the options, the kernel and its boot, as tuples that
    ``session.cache`` re-checks: ("file", path, size, mtime_ns, inode); ("modules", hash of the loaded modules' names) when a
    wildcard was expanded over events or functions; ("never",) when a wildcard stands for files: such a unit is not kept.
    ``warnings`` are (position, message, hint).
    """

    spec: Spec
    events: tuple[Event, ...] = ()
    tables: tuple[Table, ...] = ()
    losses: tuple[tuple[str, str], ...] = ()
    runs: tuple[tuple[str, str], ...] = ()
    plan: tuple[tuple[Any, ...], ...] = ()
    depends: tuple[tuple[Any, ...], ...] = ()
    warnings: tuple[tuple[str, str, str], ...] = ()
    config: tuple[tuple[str, Any], ...] = ()

    def to_plain(self) -> tuple[Any, ...]:
        return (
            self.spec.to_plain(),
            tuple((e.action, e.args, e.schema.to_plain(), e.position) for e in self.events),
            tuple((t.name, t.map, t.kind, t.key.to_plain(), t.value.to_plain(), t.per_cpu, t.params) for t in self.tables),
            self.losses,
            self.runs,
            self.plan,
            self.depends,
            self.warnings,
            self.config,
        )

    @staticmethod
    def from_plain(plain: tuple[Any, ...]) -> Unit:
        spec, events, tables, *rest = plain
        return Unit(
            Spec.from_plain(spec),
            tuple(Event(action, args, Schema.from_plain(schema), position) for action, args, schema, position in events),
            tuple(
                Table(name, map, kind, Schema.from_plain(key), Schema.from_plain(value), per_cpu, params)
                for name, map, kind, key, value, per_cpu, params in tables
            ),
            *rest,
        )
