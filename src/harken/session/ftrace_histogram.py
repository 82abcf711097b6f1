"""Histogram triggers of a buffer as objects: set, read, pause, clear, remove.

The kernel counts; reading costs one read of a file, whatever was counted.  Example (needs root and CONFIG_HIST_TRIGGERS)::

    with harken.ftrace.instance() as t:
        sizes = t.histogram("kmem:kmalloc", "bytes_req.log2", values="bytes_alloc")
        time.sleep(1)
        print(sizes.read().columns())  # or sizes.frame(), a pandas.DataFrame; sizes.table(), sizes.plot()
"""

from __future__ import annotations

from ..base.errors import KernelError, ProbeError, UsageError
from ..formats.event_histogram import EventHistogram, parse_histograms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..kernel.ftrace import Ftrace

__all__ = ("HistogramTrigger", "one_event", "trigger_text")


def words(value: str | Sequence[str]) -> list[str]:
    """A list of names, or names with commas between them."""
    return [word.strip() for word in value.split(",")] if isinstance(value, str) and value else list(value)


def trigger_text(
    keys: str | Sequence[str],
    values: str | Sequence[str] = (),
    sort: str | Sequence[str] = (),
    size: int = 0,
    condition: str = "",
) -> str:
    """The text of a trigger.

    Args:
        keys: fields, each with a modifier if need be ("pid", "bytes_req.log2", "call_site.sym", "common_stacktrace").
        values: fields that are summed up beside the hit count.
        sort: keys or values, with ".descending" if need be.
        size: how many rows there may be, 2048 if 0; the kernel takes the next power of two.
        condition: a filter.

    Example:
        >>> trigger_text("call_site.sym", ["bytes_req"], "bytes_req.descending", 4096, "bytes_req > 64")
        'hist:keys=call_site.sym:vals=bytes_req:sort=bytes_req.descending:size=4096 if bytes_req > 64'

    Raises:
        UsageError: no keys, or more than the kernel takes.
    """
    key_words, value_words, sort_words = words(keys), words(values), words(sort)
    if not 1 <= len(key_words) <= 3:
        raise UsageError("a histogram has one to three keys", "such as 'common_pid.execname' or 'bytes_req.log2'")
    if len(sort_words) > 2:
        raise UsageError("rows are sorted by two keys or values at most")
    text = f"hist:keys={','.join(key_words)}"
    text += f":vals={','.join(value_words)}" if value_words else ""
    text += f":sort={','.join(sort_words)}" if sort_words else ""
    text += f":size={size}" if size else ""
    return text + (f" if {condition}" if condition else "")


def one_event(trace: Ftrace, pattern: str) -> tuple[str, str]:
    """The one event that a name means.

    Raises:
        ProbeError: none, or several.
    """
    found = trace.event_list.required(pattern)
    if len(found) == 1:
        return found[0]
    raise ProbeError(f"{pattern!r} means several events", "such as " + " or ".join([":".join(event) for event in found[:3]]))


class HistogramTrigger:
    """A histogram that the kernel fills; ``event`` is (system, event), ``text`` its trigger."""

    def __init__(self, trace: Ftrace, event: tuple[str, str], text: str) -> None:
        self.trace, self.event, self.text = trace, event, text
        self.path = f"events/{event[0]}/{event[1]}"
        trace.add_trigger(*event, text)

    def read(self) -> EventHistogram:
        """What has been counted.

        Raises:
            KernelError: the trigger is gone.
        """
        found = parse_histograms(self.trace.tracefs.read(f"{self.path}/hist"))
        wanted = self._keys(self.text)
        chosen = [histogram for histogram in found if self._keys(histogram.trigger) == wanted] or found
        if not chosen:
            raise KernelError(f"the histogram of {':'.join(self.event)} is gone", errno=2, hint="somebody has removed its trigger")
        return chosen[-1]

    @staticmethod
    def _keys(text: str) -> str:
        return text.partition("keys=")[2].partition(":")[0].partition(" ")[0]

    def _command(self, word: str) -> None:
        body, condition, filter = self.text.partition(" if ")
        self.trace.tracefs.write(f"{self.path}/trigger", f"{body}:{word}{condition}{filter}", True)

    def pause(self) -> None:
        """Stops counting."""
        self._command("pause")

    def resume(self) -> None:
        """Goes on counting."""
        self._command("continue")

    def clear(self) -> None:
        """Counts from zero."""
        self._command("clear")

    def frame(self) -> Any:
        """A ``pandas.DataFrame``."""
        import pandas  # type: ignore[import-not-found, import-untyped, unused-ignore]

        return pandas.DataFrame(self.read().columns())

    def to_arrow(self) -> Any:
        """A ``pyarrow.Table``."""
        import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore]

        return pyarrow.table(self.read().columns())

    def table(self, top: int = 0) -> str:
        """As a table of text; the last ``top`` rows."""
        from ..render.event_histogram import table_text

        return table_text(self.read(), top)

    def plot(self, value: str = "", top: int = 0) -> str:
        """As bars of text."""
        from ..render.event_histogram import plot_text

        return plot_text(self.read(), value, top)
