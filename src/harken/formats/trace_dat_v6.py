"""Where things are in a ``trace.dat`` of version 6: the parts in their fixed order (``trace_dat_layout`` tells which)."""

from __future__ import annotations

import struct

from ..base.errors import FormatError
from . import trace_dat_layout as layout
from .trace_dat_layout import BufferPlace, CpuData, Cursor, Layout, Option, Section

__all__ = ("read_v6",)


def read_v6(cursor: Cursor, long_size: int, page_size: int) -> Layout:
    """What ``trace_dat_head.read_layout`` gives for version 6; the cursor stands behind the page size, in the file's byte order."""
    sections: list[Section] = []
    problems: list[str] = []
    options: list[Option] = []
    buffers: list[BufferPlace] = []
    cpus = 0
    try:
        for number in (layout.HEADER_INFO, layout.FTRACE_EVENTS, layout.EVENT_FORMATS, layout.KALLSYMS, layout.PRINTK, layout.CMDLINES):
            start = cursor.at
            _skip(cursor, number)
            sections.append(Section(number, start, cursor.at - start))
        cpus = layout.cpu_count(cursor, cursor.u32())
        kind = bytes(cursor.take(10))
        if kind == b"options  \0":
            _options_v6(cursor, options)
            kind = bytes(cursor.take(10))
        buffers.append(_buffer_v6(cursor, kind, "", cpus, page_size, problems))
        total = cpus
        count = 0  # a CPUCOUNT option tells about the buffer before it
        for option in options:
            if option.id == layout.CPUCOUNT and len(option.data) >= 4 and len(buffers) > 1:
                count = layout.cpu_count(cursor, struct.unpack_from(cursor.order + "I", option.data)[0])
                total += count
                layout.check_places(cursor, len(buffers), total)
                buffers[-1] = _instance_v6(cursor, buffers[-1].name, buffers[-1].offset, count, page_size, problems)
            elif option.id == layout.BUFFER and len(option.data) > 8:
                total += cpus
                layout.check_places(cursor, len(buffers), total)
                where = struct.unpack_from(cursor.order + "Q", option.data)[0]
                name = option.data[8:].split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
                buffers.append(_instance_v6(cursor, name, where, cpus, page_size, problems))
    except FormatError as error:
        if len(sections) < 3:
            raise
        problems.append(str(error))
    clock = next((option.data for option in options if option.id == layout.TRACECLOCK), b"")
    if clock and buffers and not buffers[0].clock:
        buffers[0] = buffers[0].replace(clock=layout.chosen_clock(clock.decode("utf-8", "replace")))
    return Layout(
        6, cursor.order, long_size, page_size, ("none", ""), tuple(sections), tuple(options), (), tuple(buffers), cpus, tuple(problems)
    )


def _skip(cursor: Cursor, number: int) -> None:
    """Steps over the body of a part."""
    if number == layout.HEADER_INFO:
        cursor.expect(b"header_page\0")
        cursor.take(cursor.u64())
        cursor.expect(b"header_event\0")
        cursor.take(cursor.u64())
    elif number == layout.FTRACE_EVENTS:
        for _ in range(layout.entries(cursor)):
            cursor.take(cursor.u64())
    elif number == layout.EVENT_FORMATS:
        for _ in range(layout.entries(cursor)):
            cursor.string()
            for _ in range(layout.entries(cursor)):
                cursor.take(cursor.u64())
    elif number in (layout.KALLSYMS, layout.PRINTK):
        cursor.take(cursor.u32())
    else:
        cursor.take(cursor.u64())


def _options_v6(cursor: Cursor, options: list[Option]) -> None:
    for _ in range(layout.MAX_PARTS):
        number = cursor.u16()
        if number == layout.DONE:
            return
        size = cursor.u32()
        at = cursor.at
        options.append(Option(number, bytes(cursor.take(size)), at))
    raise FormatError(cursor.what, f"more than {layout.MAX_PARTS} options", cursor.at)


def _instance_v6(cursor: Cursor, name: str, where: int, cpus: int, page_size: int, problems: list[str]) -> BufferPlace:
    at = Cursor(cursor.data, cursor.order, where, what=cursor.what)
    try:
        if where <= 0 or where >= len(cursor.data):
            raise FormatError(cursor.what, f"buffer {name!r} lies outside of the file", where)
        return _buffer_v6(at, bytes(at.take(10)), name, cpus, page_size, problems).replace(offset=where)
    except FormatError as error:
        problems.append(str(error))
        return BufferPlace(name, "", page_size, (), offset=where)


def _buffer_v6(cursor: Cursor, kind: bytes, name: str, cpus: int, page_size: int, problems: list[str]) -> BufferPlace:
    if kind == b"latency  \0":
        return BufferPlace(name, "", page_size, (), text=(cursor.at, cursor.left))
    if kind != b"flyrecord\0":
        raise FormatError(cursor.what, "neither 'flyrecord' nor 'latency' where the records begin", cursor.at - 10)
    places = [CpuData(cpu, cursor.u64(), cursor.u64()) for cpu in range(cpus)]
    clock = ""
    # The clock stands behind the table, unless there is only padding (files of trace-cmd before 2.0).
    after = cursor.at
    try:
        size = cursor.u64()
        if 0 < size < 4096 and size <= cursor.left:
            clock = layout.chosen_clock(bytes(cursor.take(size)).decode("utf-8", "replace"))
    except FormatError:
        cursor.at = after
    return BufferPlace(name, clock, page_size, layout.inside(cursor, name, places, problems))
