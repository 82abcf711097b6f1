"""``trace-cmd dump``: what a trace.dat holds beside the records: sections, options, formats, symbols; ``-v`` validates it."""

from __future__ import annotations

import sys

from ...base.errors import HarkenError, UsageError
from ...formats import trace_dat_layout as layout
from ...formats.trace_dat import TraceFile, open_trace
from .arguments import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...formats.trace_dat_layout import BufferPlace, Option, Section

__all__ = ("run",)

PARTS = tuple("head-page head-event ftrace-events systems events kallsyms printk cmd-lines options flyrecord clock".split())
_TEXTS = (layout.DATE, layout.CPUSTAT, layout.TRACECLOCK, layout.UNAME, layout.HOOK, layout.OFFSET, layout.VERSION, layout.PROCMAPS)

USAGE = """\
usage:
  harken trace-cmd dump [-i FILE] [--summary] [--all] [--head-page] [--head-event] [--ftrace-events] [--systems] [--events]
       [--kallsyms] [--printk] [--cmd-lines] [--options] [--flyrecord] [--clock] [--sections] [--strings] [-v|--validate]
"""

#: What trace-cmd calls the options.
_NAMES = {
    layout.HEADER_INFO: "HEADERS",
    layout.FTRACE_EVENTS: "FTRACE EVENTS",
    layout.EVENT_FORMATS: "EVENT FORMATS",
    layout.BUFFER_TEXT: "BUFFER TEXT",
}


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    pairs, rest = parse(argv, "hi:v", (*PARTS, "summary", "all", "sections", "strings", "validate", "help", "verbose?"))
    names = {option for option, _ in pairs}
    if "h" in names or "help" in names:
        print(USAGE, end="")
        return 0
    path = dict(pairs).get("i") or (rest.pop(0) if rest else "trace.dat")
    if rest:
        raise UsageError(f"dump takes no {rest[0]!r}")
    try:
        trace = open_trace(path)
    except OSError as error:
        from ...base.errors import KernelError

        raise KernelError(f"cannot open {path}: {error.strerror}", errno=error.errno or 0) from None
    with trace:
        if names & {"v", "validate"}:
            return _validate(trace)
        _Dump(trace, names).show()
    return 0


def _validate(trace: TraceFile) -> int:
    """Reads everything once."""
    problems = list(trace.problems)
    try:
        for section in trace.layout.sections:
            trace.section(section.id)
        len(trace.events.names)
        for buffer in trace.buffers:
            for place in buffer.cpus:
                for _ in trace.chunks(place.cpu, buffer.name):
                    pass
    except HarkenError as error:
        problems.append(str(error))
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"File {trace.name} is {'not ' if problems else ''}a valid trace-cmd file")
    return 1 if problems else 0


#: Letters of a section's name: that of a buffer, and what kind of section it is.
_LONGEST = 1 << 13


class _Dump:
    def __init__(self, trace: TraceFile, names: set[str]) -> None:
        self.trace = trace
        self.everything = "all" in names
        self.summary = "summary" in names or not names & {*PARTS, "all", "sections", "strings"}
        self.names = names
        self._sections: list[Section] | None = None
        self._body: bytes | None = None
        self._shown: set[str] = set()  # buffers

    def wants(self, name: str) -> bool:
        return self.everything or name in self.names

    def show(self) -> None:
        if self.summary or self.everything:
            self._initial()
        if self.trace.version == 6:
            self._parts_v6()
        else:
            self._parts_v7()

    def _initial(self) -> None:
        trace = self.trace
        print(f"\n Tracing meta data in file {trace.name}:\n\t[Initial format]")
        print(f"\t\t{trace.version}\t[Version]\n\t\t{int(trace.order == '>')}\t[{'Big' if trace.order == '>' else 'Little'} endian]")
        print(f"\t\t{trace.long_size}\t[Bytes in a long]\n\t\t{trace.page_size}\t[Page size, bytes]")
        if trace.version == 7:
            print(f"\t\t{trace.compression[0]}\t[Compression algorithm]\n\t\t{trace.compression[1]}\t[Compression version]")

    # -- the parts, of both versions

    def _text(self, name: str, title: str, text: str, size: int) -> None:
        if self.wants(name) or self.summary:
            print(f"\t[{title}, {size} bytes]")
        if self.wants(name):
            print(text)

    def _headers(self) -> None:
        for name, title, text in (
            ("head-page", "Header page", self.trace.header_page),
            ("head-event", "Header event", self.trace.header_event),
        ):
            self._text(name, title, text, len(text.encode("utf-8", "surrogateescape")))

    def _ftrace(self) -> None:
        formats = self.trace.ftrace_formats
        if self.wants("ftrace-events") or self.summary:
            print(f"\t[Ftrace format, {len(formats)} events]")
        if self.wants("ftrace-events"):
            for text in formats:
                print(bytes(text).decode("utf-8", "backslashreplace"))

    def _events(self) -> None:
        groups = self.trace.event_formats
        if self.wants("events") or self.wants("systems") or self.summary:
            print(f"\t[Events format, {len(groups)} systems]")
        for system, texts in groups:
            if self.wants("systems"):
                print(f"\t\t{system} {len(texts)} [system, events]")
            if self.wants("events"):
                for text in texts:
                    print(bytes(text).decode("utf-8", "backslashreplace"))

    def _kallsyms(self) -> None:
        text = self.trace.kallsyms
        self._text("kallsyms", "Kallsyms", text.decode("utf-8", "backslashreplace"), len(text))

    def _printk(self) -> None:
        text = self.trace.printk_formats
        self._text("printk", "Trace printk", text, len(text.encode("utf-8", "backslashreplace")))

    def _comms(self) -> None:
        text = self.trace.cmdlines
        self._text("cmd-lines", "Saved command lines", text, len(text.encode("utf-8", "backslashreplace")))

    # -- version 6

    def _parts_v6(self) -> None:
        trace = self.trace
        self._headers()
        self._ftrace()
        self._events()
        self._kallsyms()
        self._printk()
        self._comms()
        if self.summary or self.everything:
            print(f"\t{trace.cpus} [CPUs with tracing data]")
        for option in trace.options:
            if self.wants("options") or (self.wants("flyrecord") and option.id == layout.BUFFER):
                self._option(option)
        if self.summary or self.everything or self.wants("options"):
            print(f"\t[{len(trace.options)} options]")
        top = trace.buffer("")
        if top is not None and top.text is not None:
            print("\t[Latency tracing data]")
            return
        if self.summary or self.wants("flyrecord"):
            print("\t[Flyrecord tracing data]")
        if self.wants("flyrecord"):
            for place in top.cpus if top is not None else ():
                print(f"\t{place.offset:11} {place.size or '':10}\t[offset, size of cpu {place.cpu}]")
        if "clock" in self.names:
            print(trace.option_text(layout.TRACECLOCK))
        if self.summary or self.wants("clock"):
            print(f"\t[Tracing clock]\n\t\t[{top.clock if top is not None else ''}]")

    # -- version 7

    def _parts_v7(self) -> None:
        trace = self.trace
        if self.wants("strings") or self.wants("sections"):
            self._table()
        if self.wants("options") or self.wants("flyrecord"):
            self._options()
        if self.summary:
            for buffer in trace.buffers:
                self._buffer_line(buffer)
        if self.summary or self.wants("options"):
            # each section's end counts as an option
            print(f"\t[{len(trace.options) + len(trace.layout.option_sections)} options]")
        for number, names, show in (
            (layout.CMDLINES, ("cmd-lines",), self._comms),
            (layout.PRINTK, ("printk",), self._printk),
            (layout.KALLSYMS, ("kallsyms",), self._kallsyms),
            (layout.EVENT_FORMATS, ("events", "systems"), self._events),
            (layout.FTRACE_EVENTS, ("ftrace-events",), self._ftrace),
            (layout.HEADER_INFO, ("head-page", "head-event"), self._headers),
        ):
            section = trace.layout.section(number)
            if section is not None and any(self.wants(name) for name in names):
                self._section_line(section)
            if section is not None and (self.summary or any(self.wants(name) for name in names)):
                show()
        if self.wants("clock") and not self.everything:
            print(trace.option_text(layout.TRACECLOCK))
        if self.summary or self.everything:
            print(f"\t[{len(self._walked())} sections]")

    def _section_line(self, section: Section) -> None:
        name = self._string(section.description)
        print(f'\t[Section {section.id} @ {section.offset - 16}: "{name}", flags 0x{int(section.compressed):x}, {section.size} bytes]')

    def _string(self, at: int) -> str:
        return self._strings()[at : at + _LONGEST].partition(b"\0")[0].decode("utf-8", "backslashreplace")

    def _walked(self) -> list[Section]:
        if self._sections is None:
            self._sections = _walk(self.trace)
        return self._sections

    def _strings(self) -> bytes:
        """The table of strings; empty if there is none."""
        if self._body is None:
            section = next((section for section in self._walked() if section.id == layout.STRINGS), None)
            cursor = layout.Cursor(self.trace.data, self.trace.order, what=self.trace.name)
            self._body = bytes(layout.expand(cursor, section, self.trace._codec(), 1 << 24)) if section is not None else b""
        return self._body

    def _table(self) -> None:
        """All sections in the order of the file."""
        body = self._strings()
        print("\t[String @ offset]")
        at = 0
        for text in body.split(b"\0")[:-1]:
            print(f'\t\t"{text.decode("utf-8", "backslashreplace")}" @ {at}')
            at += len(text) + 1
        for section in self._walked():
            name = self._string(section.description)
            sizes = f"{section.size} bytes"
            if section.compressed and section.id in (layout.BUFFER, layout.BUFFER_TEXT):
                sizes = f"{section.size} compressed bytes"
            elif section.compressed:
                cursor = layout.Cursor(self.trace.data, self.trace.order, section.offset, what=self.trace.name)
                sizes = f"{cursor.u32()} compressed, {cursor.u32()} uncompressed"
            print(f'\t[Section {section.id:2} @ {section.offset - 16:<16}\t"{name}", flags 0x{int(section.compressed):x}, {sizes}]')

    def _options(self) -> None:
        trace = self.trace
        sections = trace.layout.option_sections
        options = list(reversed(trace.options))
        for at, section in enumerate(sections):
            if self.wants("options"):
                self._section_line(section)
            following = sections[at + 1].offset - 16 if at + 1 < len(sections) else 0
            while options and (section.compressed or section.offset <= options[-1].offset < section.offset + section.size):
                option = options.pop()
                if option.id in (layout.BUFFER, layout.BUFFER_TEXT):
                    self._buffer_option(option)
                elif self.wants("options"):
                    self._option(option)
            if self.wants("options"):
                print(f"\t\t[Option DONE, 8 bytes]\n{following}" + ("\n\n" if following else ""))

    def _buffer_option(self, option: Option) -> None:
        trace = self.trace
        cursor = layout.Cursor(memoryview(option.data), trace.order, what=trace.name)
        where, name = cursor.u64(), cursor.string()
        buffer = trace.buffer(name)
        if buffer is None or name in self._shown:  # one that is there again is left out
            return
        self._shown.add(name)
        if self.wants("flyrecord"):
            place = layout.Cursor(trace.data, trace.order, what=trace.name)
            self._section_line(layout.section_at(place, where, option.id))
        print(f"\t\t[Option {_NAMES.get(option.id, layout.OPTION_NAMES[option.id])}, {len(option.data)} bytes]")
        print(f'{where} [offset]\n"{name}" [name]\n"{buffer.clock}" [clock]')
        if buffer.text is None:
            print(f"{buffer.page_size} [Page size, bytes]\n{len(buffer.cpus)} [CPUs]:")
            for cpu in buffer.cpus:
                print(f"   {cpu.cpu} {cpu.offset}\t{cpu.size}\t[id, data offset and size]")
        if self.everything:
            self._buffer_line(buffer)

    def _buffer_line(self, buffer: BufferPlace) -> None:
        total = sum(place.size for place in buffer.cpus)
        kind = "flyrecord" if buffer.text is None else "latency"
        cpus = f"{len(buffer.cpus)} cpus, {total} bytes {kind} data"
        print(f'\t[buffer "{buffer.name}", "{buffer.clock}" clock, {buffer.page_size} page size, {cpus}]')

    def _option(self, option: Option) -> None:
        name = _NAMES.get(option.id) or (layout.OPTION_NAMES[option.id] if option.id < len(layout.OPTION_NAMES) else str(option.id))
        order = "little" if self.trace.order == "<" else "big"
        number = int.from_bytes(option.data[:8], order)  # type: ignore[arg-type]
        if layout.HEADER_INFO <= option.id <= layout.CMDLINES:
            print(f"\t\t[Option {name}, {len(option.data)} bytes] @ {number}")
            return
        print(f"\t\t[Option {name}, {len(option.data)} bytes]")
        if option.id == layout.TRACEID:
            print(f"0x{number:X}")
        elif option.id == layout.CPUCOUNT:
            print(int.from_bytes(option.data[:4], order))  # type: ignore[arg-type]
        elif option.id == layout.BUFFER:
            text = option.data[8:].split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
            print(f'{number} [offset]\n"{text}" [name]')
        elif option.id in _TEXTS:
            print(option.data.split(b"\0", 1)[0].decode("utf-8", "backslashreplace"))
        else:
            print(option.data.hex(" "))


def _walk(trace: TraceFile) -> list[Section]:
    """All sections in the order of the file: they stand one behind the other."""
    found: list[Section] = []
    at = trace.layout.sections[0].offset - 16 if trace.layout.sections else 0
    cursor = layout.Cursor(trace.data, trace.order, at, what=trace.name)
    while cursor.left >= 16 and len(found) < 10000:
        number, flags, description, size = cursor.u16(), cursor.u16(), cursor.u32(), cursor.u64()
        if number > 100 or flags > 1:
            break
        found.append(layout.Section(number, cursor.at, size, bool(flags & 1), description))
        if size > cursor.left:
            break
        cursor.at += size
    return found
