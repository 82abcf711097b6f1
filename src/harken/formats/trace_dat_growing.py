"""A ``trace.dat`` to record into, which is complete at every moment.

Everything but the pages stands in the file before the first record is taken, each CPU's pages have a region of their own in the (sparse)
file, and the table of their sizes is updated as they grow.  Whoever is killed while recording leaves a recording that trace-cmd and
KernelShark read too.
"""

from __future__ import annotations

import os
import struct

from . import trace_dat_layout as layout
from .trace_dat_parts import BufferSource, Parts
from .trace_dat_writer import DESCRIPTIONS, HEAD, buffer_option, start_v7, write_strings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("Growing",)


class Growing:
    """A v7 file that is complete at every moment of its recording.

    Regions lie far apart in a sparse file; the last size in the table says how much of each is there.
    """

    def __init__(self, fd: int, parts: Parts, buffers: Sequence[tuple[str, str, int, Sequence[int]]], comm_room: int = 1 << 16) -> None:
        """
        Args:
            fd: an empty regular file, open for reading and writing.
            buffers: (name, clock, page size, CPUs) of each.
            comm_room: bytes that are kept free for ``update_cmdlines``.

        Raises:
            OSError: the file system has no sparse files, or no room for what is not sparse.
        """
        self.fd = fd
        self.order = parts.order
        if not any(not buffer[0] for buffer in buffers):  # readers expect a top buffer
            buffers = [("", buffers[0][1] if buffers else "local", parts.page_size, ()), *buffers]
        out, sections = start_v7(fd, parts, "none")
        places = [(number, sections.add(number, parts.body(number))) for number in HEAD]
        comms = parts.body(layout.CMDLINES)
        self._comm_room = max(comm_room, len(comms))
        places.append((layout.CMDLINES, sections.header(layout.CMDLINES, self._comm_room)))
        self._comms_at = out.at
        out.write(comms.ljust(self._comm_room, b"\0"))
        sections.options(
            [
                *((number, struct.pack(parts.order + "Q", at)) for number, at in places),
                *parts.options,
                (layout.CPUCOUNT, struct.pack(parts.order + "I", parts.cpus)),
            ]
        )
        streams = sum(len(cpus) for _, _, _, cpus in buffers)
        tables: list[tuple[tuple[str, int], int]] = []
        options_places = []
        for name, clock, page_size, cpus in buffers:
            number, body = buffer_option(BufferSource(name, clock, page_size), parts.order, 0, [(cpu, 0, 0) for cpu in cpus])
            sections.options([(number, body)])
            start = out.at - 14 - len(body)  # before the DONE option
            options_places.append(start)
            entries = out.at - 14 - 20 * len(cpus)
            tables += [((name, cpu), entries + 20 * index + 4) for index, cpu in enumerate(cpus)]
        for name, _, _, _ in buffers:
            sections.string(DESCRIPTIONS[layout.BUFFER] + name)
        write_strings(out, sections)
        alignment = max([4096, *(page_size for _, _, page_size, _ in buffers)])
        at = out.at
        self.room = _spread(fd, at + alignment, streams + len(buffers), alignment)
        self.places: dict[tuple[str, int], int] = {}
        tables_by_key = dict(tables)
        for (name, _, _, cpus), option in zip(buffers, options_places):
            description = bytes(sections.strings).find((DESCRIPTIONS[layout.BUFFER] + name).encode("utf-8", "surrogateescape") + b"\0")
            first = (at + 16 + alignment - 1) // alignment * alignment
            size = first - at - 16 + self.room * len(cpus)
            out.patch(at, struct.pack(parts.order + "HHIQ", layout.BUFFER, 0, max(description, 0), size))
            out.patch(option, struct.pack(parts.order + "Q", at))
            for index, cpu in enumerate(cpus):
                self.places[name, cpu] = first + index * self.room
                out.patch(tables_by_key[name, cpu], struct.pack(parts.order + "Q", first + index * self.room))
            at = first + self.room * len(cpus)
        self._sizes_at = tables_by_key
        out.close()

    def update(self, buffer: str, cpu: int, size: int, start: int = -1) -> None:
        """Says how many bytes of a CPU's region are there now.

        Args:
            start: where they begin, if not at the region's beginning (``places``).
        """
        if start < 0:
            start = self.places[buffer, cpu]
        os.pwrite(self.fd, struct.pack(self.order + "QQ", start, size), self._sizes_at[buffer, cpu])

    def update_cmdlines(self, text: bytes) -> None:
        """Replaces the names of tasks (cut at a line's end if there is no room)."""
        room = self._comm_room - 8
        if len(text) > room:
            text = text[: text.rfind(b"\n", 0, room) + 1]
        os.pwrite(self.fd, text, self._comms_at + 8)
        os.pwrite(self.fd, struct.pack(self.order + "Q", len(text)), self._comms_at)


def _spread(fd: int, start: int, streams: int, alignment: int) -> int:
    """The distance between regions: as far as this file system's files reach."""
    for bits in (43, 42, 40, 38, 36, 34):  # 8 TiB: ext4 takes twice as much, and it can still be mapped; ... 16 GiB
        total = (1 << bits) - (1 << bits - 4)
        room = (total - start) // max(streams, 1) // alignment * alignment
        if room < 1 << 26:
            break
        try:
            os.ftruncate(fd, start + total)
        except OSError:
            continue
        os.ftruncate(fd, start)
        return room
    raise OSError(27, "no room for sparse regions in a file here")
