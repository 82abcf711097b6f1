"""Whether a short recording has markers: texts that users wrote into ``trace_marker``.

They are shown with the kernel function that took them.  An instance gets them since Linux 6.16 (option ``copy_trace_marker``).  Nothing
else of most recordings shows a function's name, and listing the kernel's symbols costs more than everything else, so it is done only if
there is such a record.
"""

from __future__ import annotations

import struct

from ..formats.ring_page import parse, parse_layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..formats.trace_dat_parts import Parts

__all__ = ("has_markers",)


def has_markers(parts: Parts, pages: Iterable[bytes]) -> bool:
    """Whether a record of ``ftrace:print`` (or ``bprint``, ``bputs``) is in any of some pages.

    Args:
        parts: of the recording.
    """
    kinds = {_number(text) for text in parts.ftrace_formats if text.startswith((b"name: print\n", b"name: bprint\n", b"name: bputs\n"))}
    layout = parse_layout(parts.header_page, parts.order, parts.long_size)
    kind = struct.Struct(parts.order + "H").unpack_from  # common_type is the first field of every record
    return any(kind(page, start)[0] in kinds for page in pages for _time, start, size in parse(page, layout=layout).records if size >= 2)


def _number(text: bytes) -> int:
    return int(text.partition(b"\nID:")[2].split(b"\n", 1)[0])
