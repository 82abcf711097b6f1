"""Whether a recording has records of other kinds than the events that it is about.

Such as texts that users wrote into ``trace_marker``, which are shown with the kernel function that took them, and what kernel code prints
with ``trace_printk``.  They go to the top buffer; an instance gets markers since Linux 6.16 (option ``copy_trace_marker``), or by its own
file.  Nothing else of most recordings shows a function's name, and listing the kernel's symbols costs more than everything else, so it is
done only if there is such a record.  Of a private instance, the top buffer tells: it gets each marker as well, so none was written if it
has no more records than before.  Else recordings that are not large are looked through.
"""

from __future__ import annotations

from ..base.errors import KernelError
from ..native import library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..formats.trace_dat_parts import Parts
    from ..kernel.tracefs import Tracefs

__all__ = ("count_of_top", "has_others", "most_to_look_through")


def count_of_top(root: Tracefs) -> int:
    """How many records the top buffer has taken so far; -1 if it does not take markers, or does not tell."""
    from .recorder_ftrace import parse_stats

    try:
        if root.read("tracing_on").strip() != "1" or root.read("options/copy_trace_marker").strip() != "1":
            return -1
        found = 0
        for name in root.kernel.listdir(root.path("per_cpu")):
            numbers = parse_stats(root.read(f"per_cpu/{name}/stats"))
            found += sum(numbers[word] for word in ("entries", "overrun", "dropped events", "read events"))
    except (KernelError, OSError, KeyError):
        return -1
    return found


def has_others(parts: Parts, pages: Iterable[bytes], page_size: int) -> bool:
    """Whether a record of any but the recorded events is in some pages.

    Args:
        parts: of the recording.
        pages: any number of them at a time, back to back.
        page_size: bytes of a page.
    """
    from ..formats.ring_page import parse_layout, walk

    kinds = {_number(text) for _system, texts in parts.event_formats for text in texts}
    layout = parse_layout(parts.header_page, parts.order, parts.long_size)
    fast = None if library() is not None else False  # numpy takes longer to load than what it saves
    return not all(kinds.issuperset(walk(some, page_size, layout, fast).types) for some in pages)


def most_to_look_through() -> int:
    """Bytes of records that are looked through: with more of them, listing the kernel's symbols costs little beside."""
    return 1 << 18 if library() is None else 1 << 24


def _number(text: bytes) -> int:
    return int(text.partition(b"\nID:")[2].split(b"\n", 1)[0])
