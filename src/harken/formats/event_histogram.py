"""The text of an event's ``hist`` file: what the kernel counted for histogram triggers, as values.

Layout: kernel/trace/trace_events_hist.c (``hist_trigger_show``).  A file holds one block per trigger::

    # event histogram
    #
    # trigger info: hist:keys=common_pid.execname:vals=hitcount,bytes_req:sort=hitcount:size=2048 [active]
    #

    { common_pid: bash            [      1234] } hitcount:          5  bytes_req:        512

    Totals:
        Hits: 5
        Entries: 1
        Dropped: 0

Example:
    >>> text = "# trigger info: hist:keys=pid,comm:vals=hitcount:sort=hitcount:size=64 [active]\\n#\\n\\n"
    >>> text += "{ pid:          7, comm: a, b: c } hitcount:          2\\n\\nTotals:\\n    Hits: 2\\n    Entries: 1\\n    Dropped: 3\\n"
    >>> found = parse_histograms(text)[0]
    >>> [(key.number, key.text) for key in found.rows[0].keys], found.rows[0].values, found.dropped
    ([(7, '7'), (None, 'a, b: c')], (2,), 3)
    >>> found.columns()
    {'pid': [7], 'comm': ['a, b: c'], 'hitcount': [2]}
"""

from __future__ import annotations

from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("EventHistogram", "HistogramRow", "Key", "parse_histograms")


class Key(Record):
    """One key of a row.

    ``text`` is what a person reads: the name of a function, task or system call, "[32, 63]" for a range, a stack with one function per
    line.  ``number`` is the value behind it, or the first of the range; None for texts and stacks.
    """

    text: str
    number: int | None = None
    last: int | None = None


class HistogramRow(Record):
    """One row: keys, values (integers; percentages are floats), and what ``save()`` kept: (name, text) pairs, the maximum among them."""

    keys: tuple[Key, ...]
    values: tuple[int | float, ...]
    saved: tuple[tuple[str, str], ...] = ()


class EventHistogram(Record):
    """One trigger's histogram; ``keys`` are named as in the trigger ("common_pid.execname"), rows are in the kernel's order."""

    trigger: str
    keys: tuple[str, ...]
    values: tuple[str, ...]
    rows: tuple[HistogramRow, ...]
    hits: int = 0
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[HistogramRow]:
        return iter(self.rows)

    @property
    def active(self) -> bool:
        """Whether it counts at the moment."""
        return self.trigger.endswith("[active]")

    @property
    def total(self) -> int:
        """The sum of the hit counts."""
        return sum(int(row.values[0]) for row in self.rows if row.values)

    def columns(self) -> dict[str, list[int | float | str | None]]:
        """Columns by name, as ``pandas.DataFrame`` and ``pyarrow.table`` take them.

        A key with a number and a name (``.sym``, ``.execname``, ``.syscall``) gives two columns: the field's, and one with the modifier's
        name; a range gives the first and, as ``FIELD.last``, the last value.
        """
        found: dict[str, list[int | float | str | None]] = {}
        for place, name in enumerate(self.keys):
            field, _, modifier = name.partition(".")
            cells = [row.keys[place] for row in self.rows]
            modifier = modifier.partition("=")[0]
            if modifier in ("sym", "sym-offset", "execname", "syscall"):
                found[field] = [cell.number for cell in cells]
                found[f"{field}.{modifier}"] = [cell.text for cell in cells]
            elif modifier in ("log2", "buckets"):
                found[field] = [cell.number for cell in cells]
                found[f"{field}.last"] = [cell.last for cell in cells]
            else:
                found[field] = [cell.text if cell.number is None else cell.number for cell in cells]
        for place, name in enumerate(self.values):
            found[name] = [row.values[place] if place < len(row.values) else None for row in self.rows]
        return found


def parse_histograms(text: str) -> list[EventHistogram]:
    """All histograms of a ``hist`` file; lines that are not understood are passed over."""
    found: list[EventHistogram] = []
    block: list[str] = []
    for line in text.split("\n"):
        if line.startswith("# trigger info:") and block:
            _add(found, block)
            block = []
        if block or line.startswith("# trigger info:"):
            block.append(line)
    if block:
        _add(found, block)
    return found


def _add(found: list[EventHistogram], lines: list[str]) -> None:
    trigger = lines[0].partition(":")[2].strip()
    parts = _parts(trigger)
    keys = tuple(parts.get("keys", "").split(","))
    values = tuple(_value_name(name) for name in parts.get("vals", "hitcount").split(","))
    rows: list[HistogramRow] = []
    totals = {"Hits": 0, "Dropped": 0}
    at = 1
    while at < len(lines):
        line = lines[at]
        at += 1
        if line.startswith("{ "):
            text = line
            while " hitcount:" not in text.rpartition("}")[2] and at < len(lines) and not lines[at].startswith(("{ ", "Totals:")):
                text += "\n" + lines[at]  # stacks go over several lines
                at += 1
            row = _row(text, keys, len(values))
            if row is not None:
                rows.append(row)
        elif line.startswith("\t") and rows:
            rows[-1] = rows[-1].replace(saved=rows[-1].saved + tuple(_saved(line)))
        else:
            name, _, number = line.strip().partition(": ")
            if name in totals and number.isdigit():
                totals[name] = int(number)
    found.append(EventHistogram(trigger, keys, values, tuple(rows), totals["Hits"], totals["Dropped"]))


def _parts(trigger: str) -> dict[str, str]:
    """The parameters of a trigger."""
    found: dict[str, str] = {}
    for part in trigger.partition(" if ")[0].partition(" [")[0].split(":")[1:]:
        name, equals, value = part.partition("=")
        if equals:
            found.setdefault({"key": "keys", "val": "vals", "values": "vals"}.get(name, name), value)
    return found


def _value_name(name: str) -> str:
    return name.removesuffix(".hex")


def _row(text: str, names: tuple[str, ...], values: int) -> HistogramRow | None:
    inside, brace, outside = text.rpartition("}")
    if not brace:
        return None
    fields = [name.partition(".")[0] for name in names]
    keys: list[Key] = []
    rest = inside[2:]
    for place, name in enumerate(names):
        mark = f"{fields[place]}.stacktrace"
        if rest.startswith(mark + " "):  # the kernel writes no colon behind these
            head, rest = mark, rest[len(mark) :]
        else:
            head, colon, rest = rest.partition(":")
            if not colon:
                return None
        following = f", {fields[place + 1]}" if place + 1 < len(fields) else ""
        cut = _next(rest, following) if following else len(rest)
        keys.append(_key(rest[:cut], name, head.strip()))
        rest = rest[cut + 2 :]
    numbers: list[int | float] = []
    words = outside.split()
    for place, word in enumerate(words):
        if word.endswith(":"):
            cell = words[place + 1] if place + 1 < len(words) else ""
            try:
                numbers.append(float(cell) if "." in cell else int(cell, 0))
            except ValueError:
                numbers.append(len(cell) if cell.strip("#") == "" else 0)  # a bar of #
    return HistogramRow(tuple(keys), tuple(numbers[: max(values, 1)]))


def _next(text: str, following: str) -> int:
    """Where the next key begins; texts before it may hold anything."""
    for mark in (f"{following}:", f"{following}.stacktrace:"):
        cut = text.rfind(mark)
        if cut >= 0:
            return cut
    return len(text)


def _key(text: str, name: str, head: str) -> Key:
    modifier = name.partition(".")[2].partition("=")[0]
    if "\n" in text or modifier == "stacktrace" or head.endswith("stacktrace"):
        return Key("\n".join(line.strip() for line in text.split("\n") if line.strip()))
    text = text.strip()
    if modifier in ("sym", "sym-offset") and text.startswith("["):
        address, _, function = text[1:].partition("]")
        return Key(function.strip() or f"0x{address}", _int(address, 16))
    if modifier in ("execname", "syscall") and text.endswith("]"):
        label, _, count = text[:-1].rpartition("[")
        return Key(label.strip(), _int(count, 10))
    if modifier == "log2" and "2^" in text:
        power = _int(text.partition("2^")[2], 10) or 0
        first, last = (1 << max(power - 1, 0)) + (power > 0), 1 << power
        return Key(f"[{first}, {last}]" if first < last else f"{last}", first, last)
    if modifier == "buckets" and "-" in text:
        lower, _, upper = text.lstrip("~ ").partition("-")
        return Key(f"[{lower.strip()}, {upper.strip()}]", _int(lower, 10), _int(upper, 10))
    number = _int(text, 16 if modifier == "hex" else 10)
    if number is None or (not text.isdigit() and modifier != "hex"):
        return Key(text)
    return Key(f"0x{text}" if modifier == "hex" else text, number)


def _int(text: str, base: int) -> int | None:
    try:
        return int(text, base)
    except ValueError:
        return None


def _saved(line: str) -> list[tuple[str, str]]:
    """``name: value`` pairs of a line behind a row; two blanks are between them, and more before numbers.

    Example:
        >>> _saved("\\tmax:         27  next_comm: a b      prev_pid:          0")
        [('max', '27'), ('next_comm', 'a b'), ('prev_pid', '0')]
    """
    import re

    return re.findall(r"(\w+): *(\S.*?|) *(?=  \w+: |$)", line.strip())
