"""Whether a recording has markers: texts that users wrote into ``trace_marker``.

They are shown with the kernel function that took them.  An instance gets them since Linux 6.16 (option ``copy_trace_marker``).  Nothing
else of most recordings shows a function's name, and listing the kernel's symbols costs more than everything else, so it is done only if
there is such a record: the top buffer gets each marker as well, so none was written if it has no more records than before; else short
recordings are looked through.
"""

from __future__ import annotations

import struct

from ..base.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..formats.trace_dat_parts import Parts
    from ..kernel.tracefs import Tracefs

__all__ = ("count_of_top", "has_markers")


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


def has_markers(parts: Parts, pages: Iterable[bytes]) -> bool:
    """Whether a record of ``ftrace:print`` (or ``bprint``, ``bputs``) is in any of some pages.

    Args:
        parts: of the recording.
    """
    from ..formats.ring_page import parse, parse_layout

    kinds = {_number(text) for text in parts.ftrace_formats if text.startswith((b"name: print\n", b"name: bprint\n", b"name: bputs\n"))}
    layout = parse_layout(parts.header_page, parts.order, parts.long_size)
    kind = struct.Struct(parts.order + "H").unpack_from  # common_type is the first field of every record
    return any(kind(page, start)[0] in kinds for page in pages for _time, start, size in parse(page, layout=layout).records if size >= 2)


def _number(text: bytes) -> int:
    return int(text.partition(b"\nID:")[2].split(b"\n", 1)[0])
