"""From a ``Query`` to what the kernel is told: a synthetic event and two triggers, or one histogram.

Names of variables in triggers are unique for all histograms, so they carry a number of the statement's own; it and the form of the trace
action (``.trace(EVENT,...)`` since Linux 5.0) are given by the caller.
"""

from __future__ import annotations

from ...base.diagnostics import nearest
from ...base.record import Record
from .parse import Compare, Field, Group, Not, Query, fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...formats.event_format import EventFormat, FormatField
    from .parse import Condition

    #: (system or "", name) -> format of the event, or None.
    FindEvent = Callable[[str, str], EventFormat | None]

__all__ = ("Built", "build")

_CASTS = {"hex": "hex", "sym": "sym", "sym-offset": "sym-offset", "syscall": "syscall", "log": "log2", "log2": "log2"}
_COUNTERS = ("_counter_", "__counter__")
_TIMES = {"TIMESTAMP": "common_timestamp", "TIMESTAMP_USECS": "common_timestamp.usecs", "STACKTRACE": "common_stacktrace"}
_TYPES = {
    (1, False): "unsigned char", (1, True): "char", (2, False): "u16", (2, True): "s16", (4, False): "u32", (4, True): "s32",
    (8, False): "u64", (8, True): "s64",
}  # fmt: skip


class Built(Record):
    """What to write.

    ``start`` and ``end`` are (system, event, trigger).  Without a JOIN there is a histogram only: ``fields`` is "" and ``end`` None.
    ``fields`` are those of the synthetic event ``name``.
    """

    name: str
    fields: str
    start: tuple[str, str, str]
    end: tuple[str, str, str] | None = None


class _Place(Record):
    """A field of an event: how triggers call it, and its type ("" for the format's), size and sign."""

    at_end: bool
    text: str
    field: FormatField | None
    type: str = ""


def build(
    query: Query,
    find: FindEvent,
    name: str = "Anonymous",
    number: int = 0,
    handler: str = "",
    variable: str = "",
    save: Sequence[str] = (),
    snapshot: bool = False,
    trace: bool = False,
    new_trace: bool = True,
) -> Built:
    """Makes definitions.

    Args:
        find: looks events up.
        number: makes the names of variables unique.
        handler: "" (at each match), "onmax" or "onchange" of ``variable``, which is a label of the selection.
        save: fields of the end event that are kept with the maximum or change.
        snapshot, trace: what else happens then; ``trace`` is what happens without any.
        new_trace: the kernel has ``.trace(EVENT,...)``.

    Raises:
        SourceError: an event or field does not exist, or may not be used so.
    """
    return _Builder(query, find, name, number).build(handler, variable, save, snapshot, trace, new_trace)


def _numeric(field: FormatField | None) -> bool:
    return field is None or not (field.array or field.data_loc or field.rel_loc or field.type.endswith("]"))


class _Builder:
    def __init__(self, query: Query, find: FindEvent, name: str, number: int) -> None:
        self.query, self.name, self.number = query, name, number
        self.start = self._event(query.start, find)
        self.end = self._event(query.end, find) if query.end is not None else None
        self.start_vars: list[str] = []
        self.end_vars: list[str] = []
        self.fields: list[str] = []
        self.arguments: list[str] = []
        self._count = 0
        self._names: dict[str, str] = {}

    def _event(self, written: Field, find: FindEvent) -> EventFormat:
        system, _, name = written.name.rpartition(".")
        found = find(system, name)
        if found is None:
            fail(f"event not found: {written.name}", written.span, "'harken trace-cmd list -e' shows all events")
        return found

    # -- names

    def _prefixes(self, event: EventFormat, label: str) -> list[str]:
        return [word + "." for word in (label, f"{event.category}.{event.name}", event.name) if word]

    def place(self, written: Field) -> _Place:
        """The field that a name means."""
        query = self.query
        sides = [(False, self.start, query.start_label)] + ([(True, self.end, query.end_label)] if self.end is not None else [])
        for at_end, event, label in sides:
            for prefix in self._prefixes(event, label):
                if written.name.startswith(prefix):
                    return self._field(written, event, written.name[len(prefix) :], at_end)
        if self.end is None:
            return self._field(written, self.start, written.name, False)
        for item in query.selection:  # a label of the selection
            if item.label == written.name and item.other is None and item.field.name != written.name:
                return self.place(item.field)
        names = [label or event.name for _, event, label in sides]
        fail(f"{written.name!r} does not say of which event it is a field", written.span, f"such as {names[0]}.{written.name}")

    def _field(self, written: Field, event: EventFormat, name: str, at_end: bool) -> _Place:
        name = _TIMES.get(name, name)
        if name.startswith("common_timestamp"):
            return _Place(at_end, name, None, "u64")
        if name == "common_stacktrace":
            return _Place(at_end, name, None, "unsigned long[]")
        base = name.partition(".")[0]
        found = event.field(base)
        if found is None:
            near = nearest(base, [field.name for field in event.fields])
            fail(f"Field '{name}' not part of event {event.name}", written.span, f"did you mean {near[0]}?" if near else "")
        return _Place(at_end, name, found)

    def _new(self, name: str) -> str:
        self._count += 1
        return f"__{name}_{self.number}_{self._count}"

    def _named(self, name: str) -> str:
        found = self._names.get(name)
        if found is None:
            found = self._names[name] = self._new(name)
        return found

    # -- building

    def build(self, handler: str, variable: str, save: Sequence[str], snapshot: bool, trace: bool, new_trace: bool) -> Built:
        if self.end is None:
            return self._histogram()
        pairs = [self._match(left, right) for left, right in self.query.matches]
        for item in self.query.selection:
            if item.cast:
                fail("CAST is for histograms: it cannot be joined with another event", item.cast_span or item.field.span)
            place = self.place(item.field)
            if item.other is not None:
                self._calculate(item.field, place, item.other, self.place(item.other), item.operator, item.label)
            elif place.at_end:
                text = place.field.name if place.field is not None else place.text
                result = self._named(item.label) if item.label else self._new("arg")
                self.end_vars.append(f"{result}={place.text}")
                self._result(place, item.label or text, result)
            else:
                label = item.label or place.text
                result, argument = self._named(label), self._new("arg")
                self.start_vars.append(f"{argument}={place.text}")
                self.end_vars.append(f"{result}=${argument}")
                self._result(place, label, result)
        first, last = self._filters()
        start = f"hist:keys={','.join(pair[0] for pair in pairs)}" + (":" + ",".join(self.start_vars) if self.start_vars else "")
        end = f"hist:keys={','.join(pair[1] for pair in pairs)}:" + ",".join(self.end_vars)
        end += self._actions(handler, variable, save, snapshot, trace, new_trace)
        return Built(
            self.name,
            " ".join(self.fields),
            (self.start.category, self.start.name, start + (f" if {first}" if first else "")),
            (self.end.category, self.end.name, end + (f" if {last}" if last else "")),
        )

    def _match(self, left: Field, right: Field) -> tuple[str, str]:
        one, other = self.place(left), self.place(right)
        if one.at_end == other.at_end:
            start, end = self.query.start.name, self.query.end.name if self.query.end is not None else ""
            fail(f"'{left.name}' and '{right.name}' must be a field for each event: '{start}' and '{end}'", left.span.to(right.span))
        self._compatible(left, one, right, other, "match field")
        return (other.text, one.text) if one.at_end else (one.text, other.text)

    def _compatible(self, left: Field, one: _Place, right: Field, other: _Place, verb: str) -> None:
        a, b = one.field, other.field
        if a is None or b is None:
            good = a is b and one.type == other.type
        else:
            good = a.size == b.size and (a.signed == b.signed or "*" in a.type + b.type) and _numeric(a) == _numeric(b)
            good = good and (a.data_loc, a.rel_loc) == (b.data_loc, b.rel_loc)
        if not good:
            fail(f"Field '{left.name}' is not compatible to {verb} '{right.name}'", left.span.to(right.span), "sizes and signs must agree")

    def _calculate(self, left: Field, one: _Place, right: Field, other: _Place, operator: str, label: str) -> None:
        if not label:
            fail("Field calculations must be labeled 'AS name'", left.span.to(right.span))
        if one.at_end == other.at_end:
            fail("a calculation takes a field of each event", left.span.to(right.span))
        self._compatible(left, one, right, other, "compare with")
        if not _numeric(one.field) or one.type.endswith("]"):
            fail("texts and arrays cannot be calculated with", left.span.to(right.span))
        start, end = (other, one) if one.at_end else (one, other)
        argument = self._new("arg")
        result = self._named(label)
        self.start_vars.append(f"{argument}={start.text}")
        code = f"${argument}-{end.text}" if operator == "-" and not one.at_end else f"{end.text}{operator}${argument}"
        self.end_vars.append(f"{result}={code}")
        self._result(start, label, result)

    def _result(self, place: _Place, name: str, variable: str) -> None:
        """Adds a field to the synthetic event."""
        field = place.field
        if field is None:
            text = f"{place.type} {name};"
        elif not _numeric(field):
            size = "" if field.data_loc or field.rel_loc else str(field.size)
            text = f"{field.type.partition('[')[0].strip()} {name}[{size}];"
        elif field.type in ("pid_t", "gfp_t", "bool"):
            text = f"{field.type} {name};"
        else:
            text = f"{_TYPES.get((field.size, field.signed), 'u64')} {name};"
        self.fields.append(text)
        self.arguments.append(f"${variable}")

    def _actions(self, handler: str, variable: str, save: Sequence[str], snapshot: bool, trace: bool, new_trace: bool) -> str:
        arguments = ",".join(self.arguments)
        tracing = f".trace({self.name},{arguments})" if new_trace else f".{self.name}({arguments})"
        if not handler:
            return f":onmatch({self.start.category}.{self.start.name}){tracing}"
        known = [word.partition("=")[0] for word in self.end_vars]
        chosen = self._names.get(variable, variable)
        if chosen not in known:
            span = self.query.source.span(0, len(self.query.source.text))
            labels = ", ".join(self._names)
            fail(f"'{variable}' is not a variable", span, f"the labels of the selection are: {labels}" if labels else "")
        assert self.end is not None
        for word in save:
            self._field(Field(word, self.query.end.span if self.query.end else self.query.start.span), self.end, word, True)
        what = []
        if save:
            what.append(f".save({','.join(save)})")
        if trace or not (save or snapshot):
            what.append(tracing)
        if snapshot:
            what.append(".snapshot()")
        return "".join([f":{handler}(${chosen}){action}" for action in what])

    def _histogram(self) -> Built:
        keys: list[str] = []
        values: list[str] = []
        for item in self.query.selection:
            if item.other is not None:
                fail("Simple SQL (without JOIN/ON) do not allow comparisons", item.field.span.to(item.other.span))
            place = self.place(item.field)
            kind = item.cast.lower()
            text_or_array = not _numeric(place.field)
            span = item.cast_span or item.field.span
            if kind in _COUNTERS:
                if text_or_array:
                    fail(f"'{item.field.name}' is a string, and counters may only be used with numbers", span)
                values.append(place.text)
                continue
            if kind in ("comm", "execname"):
                if place.text != "common_pid":
                    fail(f"'{kind}' is only allowed for common_pid", span)
                keys.append("common_pid.execname")
            elif kind in _CASTS or (kind.startswith("buckets=") and kind[8:].isdigit()):
                if text_or_array:
                    fail(f"Field '{place.text}' cast to '{kind}' but is of type string", span)
                keys.append(f"{place.text}.{_CASTS.get(kind, kind)}")
            elif kind == "buckets":
                fail("buckets type must have '=[number]' after it", span)
            elif kind:
                fail(
                    f"Cast of '{item.field.name}' to unknown type '{kind}'",
                    span,
                    "known: " + " ".join([*_CASTS, "execname", "buckets=N", "_COUNTER_"]),
                )
            else:
                keys.append(place.text)
        if not keys:
            fail("Not all SELECT items can be of type _COUNTER_", self.query.selection[0].field.span)
        first, _ = self._filters()
        text = f"hist:keys={','.join(keys)}" + (f":vals={','.join(values)}" if values else "") + (f" if {first}" if first else "")
        return Built(self.name, "", (self.start.category, self.start.name, text))

    # -- conditions

    def _filters(self) -> tuple[str, str]:
        """The filters of the start and of the end."""
        texts: tuple[list[str], list[str]] = ([], [])
        for condition in self.query.where:
            sides = {self.place(compare.field).at_end: compare for compare in _compares(condition)}
            if len(sides) > 1:
                compare = sides[True]
                other = self.query.start.name
                fail(
                    f"'{compare.field.name}' can not be grouped or '||' together with fields of '{other}'",
                    compare.span,
                    "all conditions between '&&' must be about one event",
                )
            mine = texts[next(iter(sides))]
            text = self._condition(condition)
            mine.append(f"({text})" if mine else text)
        return "&&".join(texts[0]), "&&".join(texts[1])

    def _condition(self, condition: Condition | str) -> str:
        if isinstance(condition, str):
            return condition
        if isinstance(condition, Not):
            inner = self._condition(condition.part)
            return f"!{inner}" if isinstance(condition.part, Group) else f"!({inner})"
        if isinstance(condition, Group):
            text = "".join([self._condition(part) for part in condition.parts])
            return f"({text})" if condition.parentheses else text
        place = self.place(condition.field)
        is_text = not _numeric(place.field)
        if isinstance(condition.value, str) != is_text or (is_text and condition.operator not in ("==", "!=", "~")):
            fail(f"Field '{place.text}' is not compatible to be compared with the given value", condition.span)
        if condition.operator == "~":
            return f"{place.text}~{condition.value}"
        return f"{place.text} {condition.operator} {condition.value}"


def _compares(condition: Condition | str) -> list[Compare]:
    found: list[Compare] = []
    waiting: list[Condition | str] = [condition]
    while waiting:
        part = waiting.pop(0)
        if isinstance(part, Compare):
            found.append(part)
        elif isinstance(part, Not):
            waiting.append(part.part)
        elif isinstance(part, Group):
            waiting += part.parts
    return found
