"""Whether a recording has records of other kinds than the events that it is about.

Such as texts that users wrote into ``trace_marker``, which are shown with the kernel function that took them, and what kernel code prints
with ``trace_printk``.  They go to the top buffer; an instance gets markers since Linux 6.16 (option ``copy_trace_marker``), or by its own
file.  Nothing else of most recordings shows a function's name, and listing the kernel's symbols costs more than everything else, so it is
done only if there is such a record.  Of a private instance, the top buffer tells: it gets each marker as well, so none was written if it
has no more records than before.  Else short recordings are looked through.
"""

from __future__ import annotations

import struct

from ..base.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..formats.trace_dat_parts import Parts
    from ..kernel.tracefs import Tracefs

__all__ = ("count_of_top", "has_others")


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


def has_others(parts: Parts, pages: Iterable[bytes]) -> bool:
    """Whether a record of any but the recorded events is in any of some pages.

    Args:
        parts: of the recording.
    """
    from ..formats.ring_page import parse, parse_layout

    kinds = {_number(text) for _system, texts in parts.event_formats for text in texts}
    layout = parse_layout(parts.header_page, parts.order, parts.long_size)
    kind = struct.Struct(parts.order + "H").unpack_from  # common_type is the first field of every record
    found = ((page, parse(page, layout=layout).records) for page in pages)
    return any(size >= 2 and kind(page, start)[0] not in kinds for page, records in found for _time, start, size in records)


def _number(text: bytes) -> int:
    return int(text.partition(b"\nID:")[2].split(b"\n", 1)[0])
