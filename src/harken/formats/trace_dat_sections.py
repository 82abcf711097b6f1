"""The sections of a version 7 ``trace.dat`` as they are written: headers, the table of strings, the chain of options."""

from __future__ import annotations

import struct

from . import trace_dat_layout as layout
from .trace_dat_layout import MAGIC
from .trace_dat_output import Output
from .trace_dat_parts import BufferSource, Parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ("DESCRIPTIONS", "HEAD", "Sections", "buffer_option", "initial", "own_types", "start_v7", "write_strings")

#: What trace-cmd calls the sections.
DESCRIPTIONS = {
    layout.HEADER_INFO: "headers",
    layout.FTRACE_EVENTS: "ftrace events",
    layout.EVENT_FORMATS: "events format",
    layout.KALLSYMS: "kallsyms",
    layout.PRINTK: "printk",
    layout.CMDLINES: "command lines",
    0: "options",
    layout.BUFFER: "buffer flyrecord ",
    layout.BUFFER_TEXT: "buffer latency ",
    layout.STRINGS: "strings",
    layout.BTF_FILE: "btf",
}


HEAD = (layout.HEADER_INFO, layout.FTRACE_EVENTS, layout.EVENT_FORMATS, layout.KALLSYMS, layout.PRINTK)


def initial(parts: Parts, version: int) -> bytes:
    head = MAGIC + b"%d\0" % version + bytes((parts.order == ">", parts.long_size))
    return head + struct.pack(parts.order + "I", parts.page_size)


class Sections:
    """Version 7: sections with their headers, the table of strings and the chain of options."""

    def __init__(self, out: Output, compression: str) -> None:
        self.out = out
        self.strings = bytearray()
        self.codec: Any = None
        if compression != "none":
            from .trace_dat_compress import codec

            self.codec = codec(compression)
        self.next_options = out.at

    def string(self, text: str) -> int:
        at = len(self.strings)
        self.strings += text.encode("utf-8", "surrogateescape") + b"\0"
        return at

    def header(self, number: int, size: int, compressed: bool = False, name: str = "") -> int:
        at = self.out.at
        description = self.string(DESCRIPTIONS[number] + name)
        self.out.write(struct.pack(self.out.order + "HHIQ", number, compressed, description, size))
        return at

    def add(self, number: int, body: bytes) -> int:
        """Writes a section; returns its place."""
        if self.codec is None or number == 0:
            at = self.header(number, len(body))
            self.out.write(body)
            return at
        packed = self.codec.compress(body)
        at = self.header(number, len(packed) + 8, True)
        self.out.u32(len(packed))
        self.out.u32(len(body))
        self.out.write(packed)
        return at

    def options(self, options: Iterable[tuple[int, bytes]]) -> None:
        """Writes a section of options and hangs it into the chain."""
        pack = struct.Struct(self.out.order + "HI").pack
        body = b"".join([pack(number, len(data)) + data for number, data in options]) + pack(layout.DONE, 8)
        at = self.add(0, body + bytes(8))
        self.out.patch(self.next_options, struct.pack(self.out.order + "Q", at))
        self.next_options = self.out.at - 8


def start_v7(fd: int, parts: Parts, compression: str) -> tuple[Output, Sections]:
    out = Output(fd, parts.order)
    out.write(initial(parts, 7))
    version = ""
    if compression != "none":
        from .trace_dat_compress import codec

        version = codec(compression).version
    out.write(compression.encode() + b"\0" + version.encode() + b"\0")
    sections = Sections(out, compression)
    out.u64(0)
    return out, sections


def buffer_option(buffer: BufferSource, order: str, at: int, places: Iterable[tuple[int, int, int]]) -> tuple[int, bytes]:
    entries = [struct.pack(order + "IQQ", cpu, offset, size) for cpu, offset, size in places]
    head = struct.pack(order + "Q", at) + b"\0".join((buffer.name.encode("utf-8", "surrogateescape"), buffer.clock.encode(), b""))
    return layout.BUFFER, head + struct.pack(order + "II", buffer.page_size, len(entries)) + b"".join(entries)


def own_types(parts: Parts, codec: Any = None) -> list[tuple[int, bytes]]:
    """The option with the kernel's types: trace-cmd 3.4 reads no file that has them in an uncompressed section, and skips what it does
    not know.
    """
    return [(layout.OWN_BTF, parts.btf)] if parts.btf and codec is None else []


def write_strings(out: Output, sections: Sections) -> None:
    sections.string(DESCRIPTIONS[layout.STRINGS])
    body = bytes(sections.strings)
    at = out.at
    out.write(struct.pack(out.order + "HHIQ", layout.STRINGS, 0, len(body) - len(DESCRIPTIONS[layout.STRINGS]) - 1, 0))
    out.write(body)
    out.patch(at + 8, struct.pack(out.order + "Q", len(body)))
