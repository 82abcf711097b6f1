"""Lines of the tracer mmiotrace, which has a layout of its own (kernel/trace/trace_mmiotrace.c; Documentation/trace/mmiotrace.rst)::

    MAP 1.500000 1 0xfebd1000 0xffffc90000029000 0x1000 0x0 0
    R 4 1.500120 1 0xfebd1000 0x3 0x0 0
    UNMAP 1.500300 1 0x0 0
    MARK 1.500400 what somebody wrote into trace_marker

Accesses to a device's memory (width, time, mapping, physical address, value, instruction), mappings and marks.  In front of them the
``trace`` file lists the devices of the PCI bus, which are not recorded; events it leaves out.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..formats.event_format import EventFormat
    from ..formats.print_fmt import Env

__all__ = ("MMIO_EVENTS", "mmio_line")

MMIO_EVENTS = frozenset(("mmiotrace_rw", "mmiotrace_map"))
_READ, _WRITE, _MAP, _UNMAP, _UNKNOWN = range(1, 6)  # enum mm_io_opcode, include/linux/mmiotrace.h


def mmio_line(event: EventFormat, env: Env) -> Callable[[int, bytes], str]:
    """The function from a record's time (ns) and its bytes to its whole line."""
    order = "little" if env.order == "<" else "big"
    buf = event.field("buf")

    def line(time: int, record: bytes) -> str:
        def number(name: str) -> int:
            field = event.field(name)
            if field is None:
                return 0
            return int.from_bytes(record[field.offset : field.offset + field.size], order, signed=field.signed)  # type: ignore[arg-type]

        seconds, micros = divmod((time + 500) // 1000, 1_000_000)
        moment = f"{seconds}.{micros:06d}"
        if event.name == "print":
            text = record[buf.offset :].split(b"\0", 1)[0] if buf is not None else b""
            return f"MARK {moment} {text.decode('utf-8', 'surrogateescape').removesuffix(chr(10))}"
        opcode, mapping, physical = number("opcode"), number("map_id"), number("phys")
        if event.name == "mmiotrace_map":
            if opcode == _MAP:
                return f"MAP {moment} {mapping} 0x{physical:x} 0x{number('virt'):x} 0x{number('len'):x} 0x0 0"
            return f"UNMAP {moment} {mapping} 0x0 0" if opcode == _UNMAP else "map what?"
        value, place = number("value"), number("pc")
        if opcode in (_READ, _WRITE):
            return f"{'R' if opcode == _READ else 'W'} {number('width')} {moment} {mapping} 0x{physical:x} 0x{value:x} 0x{place:x} 0"
        if opcode == _UNKNOWN:
            code = f"{value >> 16 & 255:02x},{value >> 8 & 255:02x},{value & 255:02x}"
            return f"UNKNOWN {moment} {mapping} 0x{physical:x} {code} 0x{place:x} 0"
        return "rw what?"

    return line
