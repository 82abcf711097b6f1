"""Damaged recordings of ftrace: good ones of many kinds, made in code or read from files, and everything that may be wrong with them.

A ``Good`` recording is kept in its parts, so that a mutant may be damaged where it hurts (the head of a page, the place of a text in a
record, a number in a format) and is then written again, in any version of the format and with any compression: what a damaged file would
never be read for is read.  Other mutants are files with damaged bytes, cut ones, and the head of one file before the rest of another.

Example:
    >>> import random
    >>> mutant(good_recordings()[:3], random.Random(7))[:10]
    b'\\x17\\x08Dtracing'
"""

from __future__ import annotations

import os
import random
import struct

from ..base.errors import HarkenError
from ..formats.event_format import EventFormat, parse
from ..formats.ring_page import Layout
from ..formats.ring_page import parse as parse_page
from ..formats.trace_dat import TraceFile
from ..formats.trace_dat_compress import available
from ..formats.trace_dat_parts import BufferSource, CpuSource, Parts
from ..formats.trace_dat_writer import write_trace
from .btf_builder import BtfBuilder
from .ring_builder import pages, random_record, record
from .trace_dat_builder import parts as plain_parts
from .trace_mutants_events import FORMATS, SYMBOLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

__all__ = ("Good", "damaged", "good_recordings", "mutant")

_MOST_TEXT = 1 << 18  # bytes of a format
_EXTREMES = (0, 1, 2, 3, 4, 7, 8, 12, 16, 0x1C, 0x7F, 0x80, 0xFF, 0xFFC, 0xFFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0xFFFF, 0x10000,
             0x7FFFFFFF, 0x80000000, 0xC0000010, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 8, (1 << 64) - 1)  # fmt: skip
#: What formats and lists of names are damaged with.
_WORDS = (
    "%s", "%d", "%*d", "%.*s", "%llx", "%pS", "%pI6c", "%2000000000d", "%-70000s", "%.2000000000d", "%#99999x", "%%", "%n", "%c", "%pUb",
    "%*pbl", "%*ph", "%200000*d", "[", "]", "(", ")", "((((((((((((((((", "{", "}", ",", '"', "\\", ";", "\t", "\n", "\x00", "?", ":",
    "REC->", "REC->a", "REC->common_pid", "__get_str(", "__get_str(path)", "__get_dynamic_array(raw)", "__get_dynamic_array_len(path)",
    "__print_flags(", "__print_symbolic(", "__print_hex(", "__print_array(", "__print_array(REC->args, 4000000000, 1)",
    "__get_bitmask(mask)", "__get_sockaddr(path)", "sizeof(", "(u8)", "(unsigned long)", "<<", "1 << 4000000000", "<< REC->b", ">> 70",
    "/ 0", "% 0", "* -1", "~", "-", "__data_loc char[] ", "__rel_loc u8[] ", "char ", "[16]", "[4000000000]", "unsigned long ",
    "struct x ", "field:", "offset:", "size:", "signed:1", "print fmt:", "name:", "ID:", "format:", "0", "1", "7", "8", "16", "4096",
    "65535", "65536", "4294967295", "-1", "99999999999", "18446744073709551615", "\xb2", "\ud800", "\U0001f600", "common_pid", "func",
    "depth", "args", "retval", "calltime",
)  # fmt: skip


class Good:
    """A recording in its parts: ``buffers`` are (name, clock, bytes of a page, CPU -> pages)."""

    def __init__(
        self, parts: Parts, buffers: list[tuple[str, str, int, dict[int, bytes]]], version: int = 7, compression: str = "none"
    ) -> None:
        self.parts, self.buffers, self.version, self.compression = parts, buffers, version, compression
        self.file = self.write()

    @classmethod
    def of_file(cls, data: bytes, name: str = "trace.dat") -> Good:
        """The parts of a file.

        Raises:
            FormatError: it is none.
        """
        with TraceFile(data, name) as trace:
            buffers = []
            for buffer in trace.buffers:
                cpus = {place.cpu: b"".join(map(bytes, trace.chunks(place.cpu, buffer.name))) for place in buffer.cpus}
                buffers.append((buffer.name, buffer.clock, buffer.page_size, cpus))
            return cls(Parts.of(trace), buffers, trace.version, trace.compression[0] or "none")

    def write(self) -> bytes:
        """The file."""
        sources = []
        for name, clock, size, cpus in self.buffers:
            made = [CpuSource(cpu, len(data), lambda data=data: [data] if data else []) for cpu, data in cpus.items()]  # type: ignore[misc]
            sources.append(BufferSource(name, clock, size, tuple(made)))
        fd = os.memfd_create("trace.dat")
        try:
            write_trace(fd, self.parts, sources, self.version, self.compression)
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    def copy(self) -> Good:
        """The same parts, which may be changed."""
        found = object.__new__(Good)
        found.parts, found.version, found.compression, found.file = self.parts, self.version, self.compression, self.file
        found.buffers = [(name, clock, size, dict(cpus)) for name, clock, size, cpus in self.buffers]
        return found

    @property
    def layout(self) -> Layout:
        long_size = self.parts.long_size
        return Layout(self.parts.order, long_size, 0, 8, long_size, 8 + long_size)


def _types(order: str) -> bytes:
    """The types of some of the functions."""
    builder = BtfBuilder()
    number, pointer = builder.integer("int", 4, signed=True), builder.ptr(0)
    long = builder.integer("unsigned long", 8)
    short = builder.integer("short", 2, signed=True)
    pair = builder.struct("pair", 16, [("a", long, 0), ("b", long, 64)])
    for name, parameters in (("do_it", [("file", pointer), ("count", number), ("short", short)]), ("_stext", [("pair", pair), ("", long)]),
                             ("vfs_read", [("a", builder.enum("e", 4, {"X": 1})), ("b", builder.floating("f", 8))])):  # fmt: skip
        builder.func(name, builder.proto(number, parameters, name == "vfs_read"))
    return builder.build(order)


def _payload(event: EventFormat, source: random.Random, order: str, functions: Sequence[int]) -> bytes:
    """A record as the kernel may write it."""
    values: dict[str, object] = {"ip": source.choice(functions), "parent_ip": source.choice(functions), "func": source.choice(functions)}
    if event.category != "ftrace" or event.name in ("hwlat", "osnoise", "timerlat", "raw_data"):
        return random_record(event, source, order, frozenset(("len", "size", "pdu_len")))
    start = source.randrange(1, 1 << 40)
    values |= {"depth": source.randrange(4), "calltime": start, "rettime": start + source.choice((7, 1500, 123456, 10**9))}
    values |= {"retval": source.choice((0, -2, 5)), "retaddr": source.choice(functions), "count": source.randrange(9), "size": 3}
    values |= {"fmt": 0xFFFFFFFF82000000, "str": 0xFFFFFFFF82000000, "opcode": source.choice((1, 2, 4)), "width": 4, "phys": 0xFE000000}
    values |= {"map_id": source.randrange(4), "action": source.choice((0x10001, 0x40002, 7)), "buf": "a text\n", "bytes": 4096}
    values |= {"sector": 99, "device": 8 << 20}
    data = record(event, values, order, source.choice((1, 1, 2, 77)))
    if event.name in ("kernel_stack", "user_stack"):
        return data
    if event.field("args") is not None:
        data += b"".join(
            [source.choice(_EXTREMES).to_bytes(8, "little" if order == "<" else "big") for _ in range(source.choice((0, 2, 6)))]
        )
    return data


def _pages(events: Sequence[EventFormat], source: random.Random, count: int, layout: Layout, page_size: int) -> bytes:
    functions = [address + more for address, _ in SYMBOLS for more in (0, 0, 0x10)] + [0, 0x1234]
    if layout.long_size == 4:
        functions = [address & 0xFFFFFFFF for address in functions]
    moment, records = 10**9 + source.randrange(1000), []
    for _ in range(count):
        moment += source.choice((0, 1, 500, 1500, 20_000, 1 << 28))
        records.append((moment, _payload(source.choice(events), source, layout.order, functions)))
    return pages(records, layout.order, layout.long_size, page_size, {1: 5, 2: -1})


def _good(
    source: random.Random,
    wanted: Iterable[str],
    order: str = "<",
    long_size: int = 8,
    page_size: int = 4096,
    buffers: Sequence[str] = ("",),
    count: int = 60,
    **more: Any,
) -> Good:
    texts = [(category, text) for name, category, text in FORMATS if name in wanted]
    events = [parse(text, category) for category, text in texts]
    own = sorted({category for category, _ in texts if category != "ftrace"})
    layout = Layout(order, long_size, 0, 8, long_size, 8 + long_size)
    made = []
    for name in buffers:
        cpus = {cpu: _pages(events, source, count, layout, page_size) for cpu in range(2)}
        made.append((name, "local" if not name else "mono", page_size, cpus))
    parts = plain_parts((1, 2, 77), 2, order, long_size, page_size).replace(
        ftrace_formats=tuple(text.encode() for category, text in texts if category == "ftrace"),
        event_formats=tuple((name, tuple(text.encode() for category, text in texts if category == name)) for name in own),
        kallsyms="".join([f"{address:x} T {name}\n" for address, name in SYMBOLS]).encode(),
        btf=_types(order) if more.get("version", 7) == 7 else b"",
    )
    return Good(parts, made, **more)


def good_recordings(seed: int = 1, each: int = 4) -> list[Good]:
    """Recordings of all tracers, kinds of fields, versions, compressions, byte orders and sizes of longs and pages.

    Args:
        each: how many of each shape, with different events.
    """
    source = random.Random(seed)
    test = [name for name, category, _ in FORMATS if category == "test"]
    others = [name for name, category, _ in FORMATS if category not in ("test", "ftrace")]
    tracers = "function func_repeats kernel_stack user_stack print bprint bputs sched_switch wakeup context_switch".split()
    graph = ["funcgraph_entry", "funcgraph_exit", "funcgraph_retaddr_entry", "print", "kernel_stack", "sched_switch", "function"]
    rare = ["mmiotrace_rw", "mmiotrace_map", "user_stack", "hwlat", "osnoise", "timerlat", "raw_data", "blktrace", "print"]
    packed = [codec.name for codec in available()]
    shapes: list[tuple[list[str], dict[str, Any]]] = [
        (test, {}),
        (test, {"compression": packed[0]}),
        (test, {"long_size": 4}),
        (others, {"version": 6}),
        (others, {"compression": packed[-1], "buffers": ("", "one")}),
        ([*test, *others], {"order": ">", "long_size": 4, "version": 6, "buffers": ("", "one")}),
        ([*test, *others], {"order": ">", "compression": "zlib"}),
        (tracers, {}),
        (tracers, {"version": 6, "buffers": ("", "one", "two")}),
        (tracers, {"page_size": 16384, "compression": packed[0]}),
        (graph, {}),
        (graph, {"version": 6}),
        (graph, {"compression": packed[-1], "buffers": ("", "one")}),
        (graph, {"order": ">"}),
        (rare, {}),
        (rare, {"version": 6, "order": ">"}),
        ([name for name, _, _ in FORMATS], {"compression": packed[0]}),
    ]
    found = []
    for number in range(each):
        for names, shape in shapes:
            # few events in a file: to compile formats takes longer than all else
            chosen = source.sample(names, 4) if names is not graph else [*graph[:2], *source.sample(graph[2:], 2)]
            found.append(_good(source, chosen, count=20 if number else 40, **shape))
    return found


# ---- damage


def _number(data: bytearray, place: int, size: int, order: str, source: random.Random) -> None:
    """Puts an extreme number there, or changes the one that is there a little."""
    kind = "little" if order == "<" else "big"
    value = source.choice(_EXTREMES)
    if source.random() < 0.4:
        value = int.from_bytes(data[place : place + size], kind) + source.choice((-8, -4, -1, 1, 4, 8, 0x1000, 1 << 16, 1 << 31))  # type: ignore[arg-type]
    data[place : place + size] = (value & (1 << 8 * size) - 1).to_bytes(size, kind)[: max(0, len(data) - place)]  # type: ignore[arg-type]


def _damaged_record(data: bytearray, start: int, size: int, order: str, source: random.Random) -> None:
    """Its head (which stands four bytes before it, or eight), its event, one of its numbers."""
    way = source.randrange(5)
    if way == 0:
        kind, delta = source.choice((0, 1, 2, 27, 28, 29, 30, 31)), source.choice((0, 1, 0x7FFFFFF, source.randrange(1 << 27)))
        struct.pack_into(order + "I", data, start - 4, delta << 5 | kind if order == "<" else kind << 27 | delta)
    elif way == 1 and start >= 8:
        _number(data, start - 8, 4, order, source)
    elif way == 2:
        struct.pack_into(order + "H", data, start, source.choice((0, 1, 4, 5, 6, 10, 11, 13, 14, 300, 301, 0xFFFF, source.randrange(20))))
    elif way == 3 and size >= 12:  # where a text is, as ``__data_loc`` says it
        place = start + 4 * source.randrange(2, size // 4)
        where, length = (
            source.choice((0, 8, size - 1, size, size + 1, 0xFFF, 0xFFFF)),
            source.choice((0, 1, 4, size, 0xFFF, 0x7FFF, 0xFFFF)),
        )
        struct.pack_into(order + "I", data, place, (length << 16 | where) & 0xFFFFFFFF)
    else:
        width = source.choice((1, 2, 4, 8))
        _number(data, start + source.randrange(0, max(1, size - width + 1)), width, order, source)


def _damaged_pages(data: bytes, page_size: int, layout: Layout, source: random.Random) -> bytes:
    found = bytearray(data)
    count = len(found) // page_size
    if not count:
        return source.randbytes(source.randrange(64))
    base = page_size * source.randrange(count)
    way = source.randrange(12)
    if way == 0:
        _number(found, base, 8, layout.order, source)
    elif way in (1, 2):
        _number(found, base + 8, layout.long_size, layout.order, source)
    elif way == 3:
        place = base + source.randrange(page_size)
        found[place] ^= 1 << source.randrange(8)
    elif way == 4:
        other = page_size * source.randrange(count)
        found[base : base + page_size] = found[other : other + page_size]
    elif way == 5:
        size = source.randrange(1, 512)
        place = base + source.randrange(page_size - 1)
        found[place : place + size] = source.randbytes(size)[: len(found) - place]
    elif way == 6:
        del found[source.randrange(len(found)) :]
    else:
        try:
            records = parse_page(bytes(found), layout=layout, base=base, size=page_size).records
        except HarkenError:
            records = []
        for _ in range(source.choice((1, 1, 3))):
            if records:
                _, start, size = source.choice(records)
                _damaged_record(found, start, size, layout.order, source)
    return bytes(found)


def _damaged_text(data: bytes, source: random.Random) -> bytes:
    """A word more, a word less, another number, a line again and again."""
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(source.choice((1, 1, 1, 2, 5))):
        place = source.randrange(len(text) + 1)
        way = source.randrange(7)
        digits = [at for at, letter in enumerate(text) if letter.isdigit()] if way < 2 else []
        if digits:
            place = source.choice(digits)
            end = place
            while end < len(text) and text[end].isdigit():
                end += 1
            text = text[:place] + str(source.choice(_EXTREMES)) + text[end:]
        elif way < 4:
            form = text.find("print fmt:")
            if form >= 0 and source.random() < 0.7:
                place = source.randrange(form, len(text) + 1)
            word = source.choice(_WORDS) * source.choice((1, 1, 1, 1, 2, 300))
            text = text[:place] + word + text[place + source.choice((0, 0, len(word))) :]
        elif way == 4:
            text = text[:place] + text[place + source.randrange(1, 40) :]
        elif way == 5:
            line = source.choice(text.splitlines(True) or [""])
            times = min(source.choice((2, 30, 2000)), _MOST_TEXT // (len(line) + 1) + 2)
            text = text.replace(line, "".join([line.replace(";", f"{at};", 1) for at in range(times)]), 1)  # a field has other names
        else:
            other = source.randrange(len(text) + 1)
            text = text[:place] + text[other : other + source.randrange(1, 60)] * source.choice((1, 1, 50)) + text[place:]
    return text.encode("utf-8", "surrogatepass" if source.random() < 0.5 else "replace")[:_MOST_TEXT]


def _damaged_part(parts: Parts, source: random.Random) -> Parts:
    which = source.choice("formats formats formats formats header_page kallsyms printk cmdlines options btf".split())
    if which == "formats":
        groups = [("", parts.ftrace_formats), *parts.event_formats]
        at = source.choice([number for number, (_, texts) in enumerate(groups) if texts])
        name, texts = groups[at]
        chosen = source.randrange(len(texts))
        groups[at] = name, tuple([_damaged_text(text, source) if number == chosen else text for number, text in enumerate(texts)])
        return parts.replace(ftrace_formats=groups[0][1], event_formats=tuple(groups[1:]))
    if which == "options":
        wanted = source.choice((0, 2, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 25, 0x4242))
        data = source.choice(
            (b"", b"\0" * 8, b"\xff" * 24, b"[x86-tsc]\0", b"0x" + b"f" * 40 + b"\0", b"-5\0", source.randbytes(source.randrange(64)))
        )
        return parts.replace(options=(*parts.options, (source.choice((1, 4, 7, 14, wanted)), data)))
    if which == "btf":
        return parts.replace(btf=_damaged_bytes(parts.btf, source)) if parts.btf else parts
    return parts.replace(**{which: _damaged_text(getattr(parts, which), source)})


def _damaged_bytes(data: bytes, source: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(source.choice((1, 1, 2, 3, 8, 30))):
        if len(found) < 16:
            break
        place = source.randrange(min(600, len(found) - 8) if source.random() < 0.4 else len(found) - 8)
        way = source.randrange(7)
        if way == 0:
            found[place] ^= 1 << source.randrange(8)
        elif way == 1:
            found[place] = source.randrange(256)
        elif way in (2, 3):
            _number(found, place, source.choice((1, 2, 4, 8)), source.choice("<<>"), source)
        elif way == 4:
            size, other = source.randrange(1, 64), source.randrange(len(found))
            found[place : place + size] = found[other : other + size]
        elif way == 5:
            size = source.randrange(1, 1024)
            found[place : place + size] = source.randbytes(size) if source.random() < 0.5 else bytes([source.randrange(256)]) * size
        elif source.random() < 0.3:
            del found[source.choice((place, source.randrange(len(found)))) :]
    return bytes(found)


def damaged(good: Good, source: random.Random) -> bytes:
    """A file of which some parts are damaged, but which is written well."""
    made = good.copy()
    for _ in range(source.choice((1, 1, 1, 2, 4, 12))):
        if source.random() < 0.65:
            number = source.randrange(len(made.buffers))
            name, clock, size, cpus = made.buffers[number]
            if cpus:
                cpu = source.choice(list(cpus))
                cpus[cpu] = _damaged_pages(cpus[cpu], size, made.layout, source)
        else:
            made.parts = _damaged_part(made.parts, source)
    if source.random() < 0.03:
        made.buffers *= source.choice((2, 40))
    if source.random() < 0.4:
        made.version = source.choice((6, 7, 7))
    made.compression = "none" if made.version == 6 else source.choice(("none", made.compression, *[codec.name for codec in available()]))
    return made.write()


def mutant(goods: Sequence[Good], source: random.Random) -> bytes:
    """One of the recordings, damaged in some way."""
    good = source.choice(goods)
    way = source.random()
    if way < 0.6:
        return damaged(good, source)
    if way < 0.7:
        return _damaged_bytes(damaged(good, source), source)
    if way < 0.95:
        return _damaged_bytes(good.file, source)
    other = source.choice(goods).file
    cut = source.choice((source.randrange(len(good.file)), source.randrange(2048)))
    return good.file[:cut] + other[cut if source.random() < 0.6 else source.randrange(len(other)) :]
