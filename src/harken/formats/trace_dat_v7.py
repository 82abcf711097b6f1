"""Where things are in a ``trace.dat`` of version 7: what its options tell (``trace_dat_layout``)."""

from __future__ import annotations

import struct

from ..base.errors import FormatError
from . import trace_dat_layout as layout
from .trace_dat_layout import BufferPlace, CpuData, Cursor, Layout, Option, Section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .trace_dat_compress import Codec

__all__ = ("read_v7",)


def read_v7(cursor: Cursor, long_size: int, page_size: int) -> Layout:
    """What ``trace_dat_head.read_layout`` gives for version 7; the cursor stands behind the page size, in the file's byte order."""
    compression = (cursor.string(256), cursor.string(256))
    options_at = cursor.u64()
    problems: list[str] = []
    options: list[Option] = []
    option_sections: list[Section] = []
    codec = None
    if compression[0] not in ("none", ""):
        from .trace_dat_compress import codec as find

        codec = find(compression[0])
    where, seen = options_at, set()
    while where:
        try:
            if where in seen or where >= len(cursor.data):
                problem = "a chain of options that bites its tail" if where in seen else "options beyond the end of the file: truncated?"
                raise FormatError(cursor.what, problem, where)
            seen.add(where)
            where = _options_v7(cursor, where, codec, options, option_sections)
        except FormatError as error:
            if not options:
                raise
            problems.append(str(error))
            break
    sections: list[Section] = []
    buffers: list[BufferPlace] = []
    cpus = places = 0
    for option in options:
        body = Cursor(memoryview(option.data), cursor.order, what=f"{cursor.what}: option {option.id}")
        try:
            if layout.HEADER_INFO <= option.id <= layout.CMDLINES or option.id >= layout.BTF_FILE:
                if len(option.data) == 8:
                    sections.append(layout.section_at(cursor, body.u64(), option.id))
            elif option.id in (layout.BUFFER, layout.BUFFER_TEXT):
                layout.check_places(cursor, len(buffers), places)
                buffers.append(_buffer_v7(cursor, body, option.id == layout.BUFFER_TEXT, page_size, problems))
                places += len(buffers[-1].cpus)
            elif option.id == layout.CPUCOUNT:
                cpus = layout.cpu_count(cursor, body.u32())
        except FormatError as error:
            problems.append(str(error))
    if not any(section.id == layout.HEADER_INFO for section in sections):
        raise FormatError(cursor.what, "no description of the ring buffer's pages" + (f" ({problems[0]})" if problems else ""))
    buffers.sort(key=lambda buffer: buffer.name != "")  # the top buffer first, the others in their order
    cpus = max([cpus, *(place.cpu + 1 for buffer in buffers for place in buffer.cpus)])
    return Layout(
        7,
        cursor.order,
        long_size,
        page_size,
        compression,
        tuple(sections),
        tuple(options),
        tuple(option_sections),
        tuple(buffers),
        cpus,
        tuple(problems),
        options_at,
    )


def _options_v7(cursor: Cursor, where: int, codec: Codec | None, options: list[Option], sections: list[Section]) -> int:
    """Reads one section of options; returns where the next one is, 0 if there is none."""
    section = layout.section_at(cursor, where, 0)
    sections.append(section)
    body = Cursor(layout.expand(cursor, section, codec, 1 << 26), cursor.order, what=f"{cursor.what}: options")
    base = -1 if section.compressed else section.offset
    while body.left >= 6:
        number, size = body.u16(), body.u32()
        at = body.at
        data = bytes(body.take(size))
        if number == layout.DONE:
            return int(struct.unpack_from(cursor.order + "Q", data)[0]) if len(data) >= 8 else 0
        if len(options) >= layout.MAX_PARTS:
            raise FormatError(cursor.what, f"more than {layout.MAX_PARTS} options", where)
        options.append(Option(number, data, base + at if base >= 0 else -1))
    return 0


def _buffer_v7(cursor: Cursor, body: Cursor, text: bool, page_size: int, problems: list[str]) -> BufferPlace:
    where, name, clock = body.u64(), body.string(), body.string()
    section = layout.section_at(cursor, where, layout.BUFFER_TEXT if text else layout.BUFFER)
    if text:
        return BufferPlace(name, layout.chosen_clock(clock), page_size, (), section.compressed, (section.offset, section.size), where)
    own_page_size, count = body.u32(), body.u32()
    if not 512 <= own_page_size <= 1 << 24 or own_page_size & (own_page_size - 1):
        raise FormatError(cursor.what, f"buffer {name!r}: {own_page_size} is not the size of a page", where)
    if count > body.left // 20:
        raise FormatError(cursor.what, f"buffer {name!r} claims {count} CPUs", where)
    places = []
    for _ in range(count):
        cpu, offset, size = body.u32(), body.u64(), body.u64()
        if cpu >= layout.MAX_CPUS:
            raise FormatError(cursor.what, f"CPU {cpu}", where)
        places.append(CpuData(cpu, offset, size))
    return BufferPlace(
        name, layout.chosen_clock(clock), own_page_size, layout.inside(cursor, name, places, problems), section.compressed, None, where
    )
