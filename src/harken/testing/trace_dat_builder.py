"""Small recordings, built in code: fixtures for tests of readers and writers of trace.dat.

Example:
    >>> from harken.formats.trace_dat import TraceFile
    >>> trace = TraceFile(recording({"": {0: [(1000, 7, 42)]}}))
    >>> trace.events.find("test:tick").id, trace.cpus, trace.comm(42)
    (7, 1, 'task-42')
"""

from __future__ import annotations

import os
import struct
import tempfile

from ..formats.trace_dat_pages import PageBuilder
from ..formats.trace_dat_parts import BufferSource, CpuSource, Parts
from ..formats.trace_dat_writer import write_trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("TICK", "parts", "recording", "sources", "payload")

#: An event with one number; id 7.
TICK = (
    "name: tick\nID: 7\nformat:\n"
    "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
    "\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n"
    "\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n"
    "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n"
    '\tfield:int value;\toffset:8;\tsize:4;\tsigned:1;\n\nprint fmt: "value=%d", REC->value\n'
)


def _header_page(long_size: int, page_size: int) -> str:
    head = 8 + long_size
    return (
        "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
        f"\tfield: local_t commit;\toffset:8;\tsize:{long_size};\tsigned:1;\n"
        "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
        f"\tfield: char data;\toffset:{head};\tsize:{page_size - head};\tsigned:1;\n"
    )


def parts(pids: Sequence[int] = (), cpus: int = 1, order: str = "<", long_size: int = 8, page_size: int = 4096) -> Parts:
    """Everything but the records: one event, a few symbols, a name for each PID."""
    return Parts(
        _header_page(long_size, page_size).encode(),
        b"# compressed entry header\n",
        (),
        (("test", (TICK.encode(),)),),
        b"ffffffff81000000 T _stext\nffffffff81000100 T do_it\nffffffff81000100 T do_it_too\nffffffffc0000000 t load\t[mod]\n",
        b'0xffffffff82000000 : "hello %d\\n"\n',
        "".join(f"{pid} task-{pid}\n" for pid in pids).encode(),
        ((5, b"Linux test 6.12 x86_64\0"), (9, b"harken test\0"), (11, struct.pack(order + "Q", 0x1234))),
        cpus,
        order,
        long_size,
        page_size,
    )


def payload(number: int, value: int, pid: int, order: str = "<", flags: int = 0) -> bytes:
    """A record of ``TICK`` (or of an event of another number with the same fields)."""
    return struct.pack(order + "HBBii", number, flags, 0, pid, value)


def sources(
    buffers: Mapping[str, Mapping[int, Sequence[tuple[int, int, int]]]], order: str, long_size: int, page_size: int
) -> list[BufferSource]:
    """Buffers of (time, value, pid) of each CPU."""
    found = []
    for name, cpus in buffers.items():
        made = []
        for cpu, records in cpus.items():
            builder = PageBuilder(page_size, order, long_size)
            for time, value, pid in records:
                builder.add(time, payload(7, value, pid, order))
            pages = builder.finish()
            made.append(CpuSource(cpu, len(pages) * page_size, lambda pages=pages: pages))  # type: ignore[misc]
        found.append(BufferSource(name, "mono" if name else "local", page_size, tuple(made)))
    return found


def recording(
    buffers: Mapping[str, Mapping[int, Sequence[tuple[int, int, int]]]],
    version: int = 7,
    compression: str = "none",
    order: str = "<",
    long_size: int = 8,
    page_size: int = 4096,
) -> bytes:
    """The bytes of a file with the given (time, value, pid) of each CPU of each buffer."""
    pids = sorted({pid for cpus in buffers.values() for records in cpus.values() for _, _, pid in records})
    count = max([cpu + 1 for cpus in buffers.values() for cpu in cpus], default=1)
    with tempfile.TemporaryFile() as stream:
        made = sources(buffers, order, long_size, page_size)
        write_trace(stream.fileno(), parts(pids, count, order, long_size, page_size), made, version, compression)
        return os.pread(stream.fileno(), os.fstat(stream.fileno()).st_size, 0)
