"""``print fmt``: the text of an event, compiled.

The last line of an event's format file is the C format string and the arguments with which the kernel prints the event.
``compile_format`` makes one Python function of it; what the C expressions say (helpers such as ``__print_flags``, casts, ternaries,
``%pS``) is translated once per event, not interpreted once per record.

Dialects: "kernel" gives the text of the ``trace`` file (with the option hash-ptr off; hashed pointers are made with a secret), with C's
arithmetic; "trace-cmd" gives what ``trace-cmd report`` prints, which computes everything in unsigned 64 bits, knows no enumerators and
has own texts for some events (``print_fmt_tep``); "trace-cmd-3.1" is the same without what libtraceevent learnt after 1.7.

A format that cannot be compiled (it follows a pointer into the kernel's memory, or calls a function of the kernel) gives a renderer that
prints the fields; its ``problem`` says why. Which events of which kernel that is: docs/print_fmt.md.

Speed: one ``struct`` call unpacks the fixed fields, one ``%`` makes the line, texts and names of numbers come from memos;
``Renderer.lines`` runs that in one list comprehension for all records of an event.  Per line 0.7 to 1.5 us on an idle core; f-strings
with format specifications, ``str.format`` and joined pieces were slower (measured, 6 hex numbers: ``%`` 1.3, f-string 2.4 us).

Example:
    >>> from harken.formats.event_format import parse
    >>> text = 'name: x\\nID: 7\\nformat:\\n\\tfield:int a;\\toffset:8;\\tsize:4;\\tsigned:1;\\n\\nprint fmt: '
    >>> event = parse(text + '"a=%d %s", REC->a, REC->a < 0 ? "neg" : "pos"')
    >>> compile_format(event, Env(order="<"))(bytes(8) + b"\\xff\\xff\\xff\\xff")
    'a=-1 neg'
"""

from __future__ import annotations

import struct
import sys
from itertools import repeat

from ..base.errors import FormatError
from ..base.record import Record
from .print_fmt_code import Coder
from .print_fmt_fields import fields_text
from .print_fmt_parse import parse
from .print_fmt_printf import Printf
from .print_fmt_values import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from ..base.ctype import Struct
    from .event_format import EventFormat
    from .function_arguments import Arguments
    from .print_fmt_bulk import BulkText
    from .print_fmt_plugin_formats import Change
    from .trace_dat import TraceFile

    Buffer = bytes | bytearray | memoryview

__all__ = ("Env", "Renderer", "compile_format", "compile_print_fmt", "plain_renderer")

#: Bytes of an event's fixed part, which are read as zeros where a record is shorter: the events of Linux 6.18 have up to 168.
_MOST_FIXED = 1 << 12
#: "Modules" whose code ``kallsyms`` lists (``get_ksymbol_ftrace``, ``get_ksymbol_kprobe``) and the kernel does not find by address.
_LISTED_ONLY = ("__builtin__ftrace", "__builtin__kprobes")


class Env(Record):
    """What a format needs to know about the machine whose records it prints.

    ``order`` is "<" or ">", ``long_size`` 4 or 8.  ``symbol(address)`` gives (name, start, size or 0) or None; a module is part of
    the name: ``"nf_hook [nf_tables]"``.
    ``address(name)`` is where a symbol is, for variables in formats, or None.
    ``string(address)`` is the text at an address of the kernel (``printk_formats``), ``constant(name)`` the value of an enumerator,
    ``struct(spelling)`` a layout ("union x"),
    the latter two usually from BTF.  ``hz`` is the kernel's CONFIG_HZ.  ``comm(pid)`` names a process.
    ``bare_syscalls``: arguments of system calls without 0x, as the ``trace`` file of kernels before Linux 6.18 has them.
    ``letters``: of the kernel's irq-info, 4 before Linux 5.15, which has no column for migration that is disabled.
    ``arguments`` prints those of traced functions, if they were recorded.
    """

    order: str = "<" if sys.byteorder == "little" else ">"
    long_size: int = 8
    dialect: str = "kernel"
    symbol: Callable[[int], tuple[str, int, int] | None] | None = None
    address: Callable[[str], int | None] | None = None
    string: Callable[[int], str | None] | None = None
    constant: Callable[[str], int | None] | None = None
    struct: Callable[[str], Struct | None] | None = None
    comm: Callable[[int], str] | None = None
    hz: int = 250
    bare_syscalls: bool = False
    letters: int = 5
    arguments: Arguments | None = None

    @staticmethod
    def of_file(trace: TraceFile, dialect: str = "trace-cmd", **more: Any) -> Env:
        """What a recording says about its machine; ``more`` adds what it does not (``constant``, ``struct``).

        The kernel names addresses of its own image, of modules and of BPF programs (``kallsyms_lookup_buildid`` in kernel/kallsyms.c),
        libtraceevent any that ``kallsyms`` lists.
        """
        table = trace.symbols
        if dialect != "kernel":

            def symbol(address: int) -> tuple[str, int, int] | None:
                found = table.find(address)
                return None if found is None else (f"{found[0]} [{found[2]}]" if found[2] else found[0], found[1], 0)

            more.setdefault("address", table.address)
            return Env(trace.order, trace.long_size, dialect, symbol=symbol, string=trace.printk, comm=trace.comm, **more)
        image: list[int] = []

        def kernel_symbol(address: int) -> tuple[str, int, int] | None:
            found = table.kernel_find(address)
            if not image:
                image.extend(table.image())
            if found is None or found[3] in _LISTED_ONLY or (not found[3] and not image[0] <= address < image[1]):
                return None
            return f"{found[0]} [{found[3]}]" if found[3] else found[0], found[1], found[2]

        more = {**_generation(trace.uname), **more}
        return Env(trace.order, trace.long_size, dialect, symbol=kernel_symbol, string=trace.printk, comm=trace.comm, **more)


def _generation(uname: str) -> dict[str, Any]:
    """How a kernel of a release prints what formats do not describe; nothing else in a recording tells.  Unknown ones count as new.

    Example:
        >>> _generation("Linux host 5.10.0-32-amd64 x86_64"), _generation("")
        ({'bare_syscalls': True, 'letters': 4}, {})
    """
    words = uname.split()
    parts = words[2][:40].split(".") if len(words) > 2 else []
    if len(parts) < 2 or not parts[0].isdecimal() or not parts[1].split("-")[0].isdecimal():
        return {}
    release = int(parts[0]), int(parts[1].split("-")[0])
    return {"bare_syscalls": release < (6, 18), "letters": 4 if release < (5, 15) else 5}


class Renderer:
    """The text of one event's records.

    ``problem`` is "" or why the format could not be compiled; ``unknown`` says what in it depends on the kernel's memory or time and
    is printed as "?" or in hex.
    ``source`` is the generated code, for those who want to see it.
    """

    __slots__ = ("_bulk", "_make", "_many", "_one", "event", "needs", "parts", "problem", "source", "unknown")

    def __init__(
        self,
        event: EventFormat,
        one: Any,
        make: Any,
        needs: int,
        source: str,
        problem: str = "",
        unknown: tuple[str, ...] = (),
        parts: tuple[Any, ...] = (),
    ) -> None:
        self.event, self._one, self._make, self.needs, self.source = event, one, make, needs, source
        self.problem, self.unknown = problem, unknown
        self._many: dict[str, Any] = {}
        #: what ``print_fmt_bulk`` and ``print_fmt_program`` make texts of; empty for a function of the record's bytes
        self.parts = parts
        self._bulk: BulkText | bool | None = None

    def __call__(self, buffer: Buffer, start: int = 0, size: int = -1) -> str:
        """The text of the record at ``start``; ``size`` bytes long (default: to the end of the buffer)."""
        end = len(buffer) if size < 0 else min(start + size, len(buffer))
        record = bytes(buffer[start:end])
        if len(record) < self.needs:  # cut short: what is missing reads as zero
            return self._one(record.ljust(self.needs, b"\0"), 0, max(len(record), self.needs))  # type: ignore[no-any-return]
        return self._one(record, 0, len(record))  # type: ignore[no-any-return]

    def lines(
        self, head: str, buffer: Any, starts: Sequence[int], ends: Sequence[int], shortest: int, *columns: Iterable[Any]
    ) -> list[str]:
        """The texts of many records, each behind a head.

        Args:
            head: Python's ``%`` format of the head, for ``columns``; the same few are expected again and again.
            buffer: ``bytes`` or ``mmap``, whatever gives ``bytes`` when sliced.
            starts, ends: of the payloads, as Python integers.
            shortest: size of the shortest of them; 0 if not known.
        """
        if shortest < self.needs:
            return [head % row[2:] + self(buffer, row[0], row[1] - row[0]) for row in zip(starts, ends, *columns)]
        found = self._many.get(head)
        if found is None:
            found = self._many[head] = self._make(head, len(columns))
        return found(buffer, starts, ends, *columns)  # type: ignore[no-any-return]

    def bulk(self) -> BulkText | None:
        """What makes the texts of very many records at once, None if the format does not allow that; needs numpy."""
        if self._bulk is None:
            from .print_fmt_bulk import BulkText
            from .print_fmt_rows import NotBulk

            try:
                self._bulk = BulkText(*self.parts) if self.parts else False
            except NotBulk:
                self._bulk = False
        return self._bulk or None  # type: ignore[return-value]


def compile_format(event: EventFormat, env: Env | None = None) -> Renderer:
    """Makes the renderer of an event; never fails, see ``Renderer.problem``."""
    env = env or Env()
    special = None
    if event.size > _MOST_FIXED:
        return plain_renderer(event, fields_text(event, env), "fields far behind any record's end")
    if env.dialect != "kernel":
        from .print_fmt_plugin_formats import change_of
        from .print_fmt_plugins import handler, handler_format

        form = handler_format(event, env)
        if form:
            made = compile_print_fmt(event.replace(print_fmt=form), env)
            if not made.problem:
                made.event = event
                return made
        change = change_of(f"{event.category}:{event.name}")
        if change is not None:
            made = compile_print_fmt(event, env, change)
            if not made.problem:
                return made
        special = handler(event, env)
    elif event.category in ("syscalls", "ftrace"):
        from .print_fmt_kernel import special_text

        special = special_text(event, env)
    return compile_print_fmt(event, env) if special is None else plain_renderer(event, special)


def compile_print_fmt(event: EventFormat, env: Env, change: Change | None = None) -> Renderer:
    """As ``compile_format``, but always from the print fmt, even for events that kernel or trace-cmd print in another way.

    Args:
        change: what else becomes of the ``%`` format and its arguments.
    """
    coder_class: type[Coder] = Coder
    printf_class: type[Printf] = Printf
    read = parse
    if env.dialect != "kernel":
        from .print_fmt_tep import TepCoder, TepPrintf
        from .print_fmt_tep_parse import parse as read

        coder_class, printf_class = TepCoder, TepPrintf
    try:
        fmt, arguments = read(event.print_fmt)
        coder = coder_class(event, env)
        text, values = printf_class(coder).parts(fmt, arguments)
        if change is not None:
            text, values = change(coder, text, values)
        return _assemble(event, coder, text, values)
    except (FormatError, RecursionError, struct.error, SyntaxError, MemoryError) as error:
        problem = error.message if isinstance(error, FormatError) else str(error)
        return plain_renderer(event, fields_text(event, env), problem.removeprefix("print fmt: "))


def plain_renderer(event: EventFormat, text: Callable[[bytes], str], problem: str = "") -> Renderer:
    """A renderer of a function of the record's bytes."""

    def one(buffer: bytes, start: int, end: int) -> str:
        return text(buffer[start:end])

    def make(head: str, _count: int) -> Any:
        def many(buffer: bytes, starts: Sequence[int], ends: Sequence[int], *columns: Iterable[Any]) -> list[str]:
            return [head % row[2:] + text(buffer[row[0] : row[1]]) for row in zip(starts, ends, *columns)]

        return many

    return Renderer(event, one, make, _needed(event) if not problem else 0, "", problem)


def _needed(event: EventFormat) -> int:
    """Bytes of a record that a function of it may read; a stack is as long as its record, not as its format says."""
    stack = event.field("caller") if event.category == "ftrace" and event.name == "kernel_stack" else None
    return event.size if stack is None else stack.offset


def _assemble(event: EventFormat, coder: Coder, text: str, values: list[str]) -> Renderer:
    fmt, variables, needs = coder.unpacker()
    if needs > _MOST_FIXED:
        raise Unsupported("fields far behind any record's end")
    names = coder.names
    target = f"({', '.join(variables)},)" if variables else "_"
    body = ", ".join(values) + ("," if values else "")
    source = "def one(b, s, e):\n" + (f"    {target} = unpack(b, s)\n" if variables else "") + f"    return {text!r} % ({body})\n"
    records = "map(unpack, repeat(b), starts)" if variables else "starts"
    used = any("e" in _words(value) for value in values)
    names["unpack"] = struct.Struct(fmt).unpack_from
    names["repeat"] = repeat

    def make(head: str, count: int) -> Any:
        cells = [f"c{i}" for i in range(count)]
        loop = ", ".join([*cells, "s", *(["e"] if used else []), target])
        columns = ", ".join([*(f"column{i}" for i in range(count)), "starts", *(["ends"] if used else []), records])
        arguments = "".join([f", column{i}" for i in range(count)])
        inner = ", ".join([*cells, body])
        run(f"def many(b, starts, ends{arguments}):\n    return [{head + text!r} % ({inner}) for {loop} in zip({columns})]\n")
        return names["many"]

    def run(code: str) -> None:
        exec(compile(code, f"<print fmt of {event.name!r}>", "exec"), names)  # made of a parsed format; all names in it are ours

    run(source)
    parts = (text, values, dict(coder.slots), names, coder.order)
    return Renderer(event, names["one"], make, needs, source, "", tuple(dict.fromkeys(coder.unknown)), parts)


def _words(code: str) -> set[str]:
    return set("".join(c if c.isalnum() or c == "_" else " " for c in code).split())
