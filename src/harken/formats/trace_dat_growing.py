"""A ``trace.dat`` to record into, which is complete at every moment.

Everything but the pages stands in the file before the first record is taken, each CPU's pages have a region of their own in the (sparse)
file, and the table of their sizes is updated as they grow.  Whoever is killed while recording leaves a recording that trace-cmd and
KernelShark read too.  ``finish`` moves the regions together, so that the file is complete there and then as well: it is not written again.
"""

from __future__ import annotations

import errno
import os
import struct

from . import trace_dat_layout as layout
from .trace_dat_parts import BufferSource, Parts
from .trace_dat_sections import DESCRIPTIONS, HEAD, buffer_option, own_types, start_v7, write_strings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        out.write(comms)
        out.skip(self._comm_room - len(comms))
        sections.options(
            [
                *((number, struct.pack(parts.order + "Q", at)) for number, at in places),
                *parts.options,
                *own_types(parts),
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
        alignment = self._alignment = max([4096, *(page_size for _, _, page_size, _ in buffers)])
        at = out.at
        self.room = _spread(fd, at + alignment, streams + len(buffers), alignment)
        self.places: dict[tuple[str, int], int] = {}
        tables_by_key = dict(tables)
        self._headers: list[tuple[str, int, int, Sequence[int]]] = []
        for (name, _, _, cpus), option in zip(buffers, options_places):
            description = bytes(sections.strings).find((DESCRIPTIONS[layout.BUFFER] + name).encode("utf-8", "surrogateescape") + b"\0")
            first = (at + 16 + alignment - 1) // alignment * alignment
            size = first - at - 16 + self.room * len(cpus)
            out.patch(at, struct.pack(parts.order + "HHIQ", layout.BUFFER, 0, max(description, 0), size))
            out.patch(option, struct.pack(parts.order + "Q", at))
            self._headers.append((name, at, option, cpus))
            for index, cpu in enumerate(cpus):
                self.places[name, cpu] = first + index * self.room
                out.patch(tables_by_key[name, cpu], struct.pack(parts.order + "Q", first + index * self.room))
            at = first + self.room * len(cpus)
        #: Where in the file the offset and the size of each CPU's data stand, two words of 64 bits.
        self.tables = tables_by_key
        self._next_options = sections.next_options
        self._symbols_name = bytes(sections.strings).find(DESCRIPTIONS[layout.KALLSYMS].encode() + b"\0")
        self._options_name = bytes(sections.strings).find(DESCRIPTIONS[0].encode() + b"\0")
        out.close()

    def update(self, buffer: str, cpu: int, size: int, start: int = -1) -> None:
        """Says how many bytes of a CPU's region are there now.

        Args:
            start: where they begin, if not at the region's beginning (``places``).
        """
        if start < 0:
            start = self.places[buffer, cpu]
        os.pwrite(self.fd, struct.pack(self.order + "QQ", start, size), self.tables[buffer, cpu])

    def update_cmdlines(self, text: bytes) -> None:
        """Replaces the names of tasks (cut at a line's end if there is no room)."""
        room = self._comm_room - 8
        if len(text) > room:
            text = text[: text.rfind(b"\n", 0, room) + 1]
        os.pwrite(self.fd, text, self._comms_at + 8)
        os.pwrite(self.fd, struct.pack(self.order + "Q", len(text)), self._comms_at)

    def finish(
        self, sizes: Mapping[tuple[str, int], int], options: Sequence[tuple[int, bytes]], kallsyms: bytes = b""
    ) -> list[tuple[str, int, int, int, int]]:
        """Makes the file compact and adds what was not known before; at every moment it can be read.

        Args:
            sizes: bytes of each region, from its beginning (``places``).
            options: (id, data) of further options.
            kallsyms: the kernel's symbols, if they were not among the parts.

        Returns:
            (buffer, CPU, offset in the file, stored size, size) of each CPU's data, as ``write_trace``.

        Raises:
            OSError: the file cannot be written.
        """
        pack = struct.pack
        written = []
        end = self._headers[0][1]
        for name, before, option, cpus in self._headers:
            at = end
            end = (at + 16 + self._alignment - 1) // self._alignment * self._alignment
            for cpu in cpus:
                size = sizes[name, cpu]
                _move(self.fd, self.places[name, cpu], end, size)
                self.update(name, cpu, size, end)
                written.append((name, cpu, end, size, size))
                end += size
            os.pwrite(self.fd, os.pread(self.fd, 8, before) + pack(self.order + "Q", end - at - 16), at)
            os.pwrite(self.fd, pack(self.order + "Q", at), option)
        os.ftruncate(self.fd, end)
        if kallsyms:
            options = [*options, (layout.KALLSYMS, pack(self.order + "Q", end))]
            head = pack(self.order + "HHIQI", layout.KALLSYMS, 0, self._symbols_name, 4 + len(kallsyms), len(kallsyms))
            end += os.pwrite(self.fd, head, end)
            end += os.pwrite(self.fd, kallsyms, end)
        body = b"".join([pack(self.order + "HI", number, len(data)) + data for number, data in options])
        body += pack(self.order + "HIQ", layout.DONE, 8, 0)
        os.pwrite(self.fd, pack(self.order + "HHIQ", 0, 0, self._options_name, len(body)) + body, end)
        os.pwrite(self.fd, pack(self.order + "Q", end), self._next_options)
        return written


def _move(fd: int, start: int, target: int, size: int) -> None:
    """Moves bytes of a file towards its beginning."""
    while size and start != target:
        try:
            done = os.copy_file_range(fd, fd, min(size, start - target, 1 << 30), start, target)
        except OSError:  # not with every file system, and never if the ranges overlap
            data = os.pread(fd, min(size, 1 << 20), start)
            done = os.pwrite(fd, data, target)
        if not done:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        start, target, size = start + done, target + done, size - done


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
