"""Records of the tracer blk, which have no format file: a ``struct blk_io_trace`` whose first eight bytes are those of every record.

The kernel prints them in its own way (kernel/trace/blktrace.c, ``print_one_line``)::

      1,0    Q   R 0 + 8 [dd]
      1,0    C  WS 2048 + 16 [0]

device, action, kind of request (R read, W write, D discard, F flush, ..., N none), then sector, number of sectors and who asked for them,
or the error.  Their event is the one behind ``user_stack``, which is where trace-cmd looks for them too; it prints nothing of them
but the process.  With the tracer's option ``blk_classic`` the kernel's lines are those of blkparse; what is recorded is the same.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .event_format import EventFormat
    from .print_fmt import Env

__all__ = ("blktrace_format", "blktrace_text")

# include/uapi/linux/blktrace_api.h, struct blk_io_trace behind the record's head
_FIELDS = (
    ("u64", "sector", 16, 8, 0), ("u32", "bytes", 24, 4, 0), ("u32", "action", 28, 4, 0), ("int", "pid", 32, 4, 1),
    ("u32", "device", 36, 4, 0), ("u32", "cpu", 40, 4, 0), ("u16", "error", 44, 2, 0), ("u16", "pdu_len", 46, 2, 0),
)  # fmt: skip
_END = 48

# categories (the action's upper half) and actions (its lower half)
_WRITE, _FLUSH, _SYNC, _PC, _NOTIFY, _AHEAD, _META, _DISCARD, _FUA = (1 << bit for bit in (1, 2, 3, 9, 10, 11, 12, 13, 15))
_CGROUP = 1 << 8
_MESSAGE = 2 | _NOTIFY << 16
_GENERIC, _ERROR, _REMAP, _PLUG, _UNPLUG, _SPLIT = range(6)
_ACTIONS = {
    1: ("Q", _GENERIC), 2: ("M", _GENERIC), 3: ("F", _GENERIC), 4: ("G", _GENERIC), 5: ("S", _GENERIC), 6: ("R", _ERROR),
    7: ("D", _GENERIC), 8: ("C", _ERROR), 9: ("P", _PLUG), 10: ("U", _UNPLUG), 11: ("UT", _UNPLUG), 12: ("I", _GENERIC),
    13: ("X", _SPLIT), 14: ("B", _GENERIC), 15: ("A", _REMAP),
}  # fmt: skip


def blktrace_format(number: int) -> bytes:
    """A format file for these records, with trace-cmd's name of the event and its text.

    Args:
        number: the event's id.
    """
    common = (
        ("unsigned short common_type", 0, 2, 0),
        ("unsigned char common_flags", 2, 1, 0),
        ("unsigned char common_preempt_count", 3, 1, 0),
        ("int common_pid", 4, 4, 1),
    )
    fields = [*common, *((f"{kind} {name}", *place) for kind, name, *place in _FIELDS)]
    lines = "".join([f"\tfield:{text};\toffset:{offset};\tsize:{size};\tsigned:{sign};\n" for text, offset, size, sign in fields])
    return f'name: blktrace\nID: {number}\nformat:\n{lines}\nprint fmt: "%d", REC->pid\n'.encode()


def blktrace_text(event: EventFormat, env: Env) -> Callable[[bytes], str]:
    """The function from a record to the kernel's text."""
    unpack = struct.Struct(env.order + "i8xQIIiIIHH").unpack_from
    big_u32, big_u64 = struct.Struct(">I").unpack_from, struct.Struct(">Q").unpack_from

    def text(record: bytes) -> str:
        record = record.ljust(_END, b"\0")
        task, sector, size, action, _, device, _, error, length = unpack(record, 4)
        comm = env.comm(task) if env.comm else "<...>"
        data, group = record[_END : _END + length], ""
        if action & _CGROUP:
            number = int.from_bytes(data[:8], "little" if env.order == "<" else "big")
            group, data = f"{number & 0xFFFFFFFF:x},{number >> 32:<x} ", data[8:]
        message = action & ~_CGROUP == _MESSAGE
        name, form = ("m", _GENERIC) if message else _ACTIONS.get(action & 0xFFFF & ~_CGROUP, ("", -1))
        if form < 0:
            return f"Unknown action {action & 0xFFFF & ~_CGROUP:x}\n"
        head = f"{device >> 20:3d},{device & 0xFFFFF:<3d} {group}{name:>2} {_kind(action, size):>3} "
        if message:
            return f"{head}{data.decode('utf-8', 'surrogateescape')}\n"
        return head + _rest(form, action >> 16 & _PC, sector, size, error, data, comm) + "\n"

    def _rest(form: int, packet: int, sector: int, size: int, error: int, data: bytes, comm: str) -> str:
        sectors = size >> 9
        if form == _GENERIC:
            if packet:
                return f"{size} {_bytes(data)}[{comm}]"
            return f"{sector} + {sectors} [{comm}]" if sectors else f"[{comm}]"
        if form == _ERROR:
            if packet:
                return f"{_bytes(data)}[{error}]"
            return f"{sector} + {sectors} [{error}]" if sectors else f"{sector} [{error}]"
        if form == _PLUG:
            return f"[{comm}]"
        if form == _REMAP:
            data = data.ljust(16, b"\0")
            device = big_u32(data)[0]
            return f"{sector} + {sectors} <- ({device >> 20},{device & 0xFFFFF}) {big_u64(data, 8)[0]}"
        number = big_u64(data.ljust(8, b"\0"))[0]
        return f"[{comm}] {number}" if form == _UNPLUG else f"{sector} / {number} [{comm}]"

    return text


def _kind(action: int, size: int) -> str:
    """What kind of request it is, in letters."""
    if action & ~_CGROUP == _MESSAGE:
        return "N"
    category = action >> 16
    text = "F" if category & _FLUSH else ""
    text += "D" if category & _DISCARD else "W" if category & _WRITE else "R" if size else "N"
    return text + "".join([letter for bit, letter in ((_FUA, "F"), (_AHEAD, "A"), (_SYNC, "S"), (_META, "M")) if category & bit])


def _bytes(data: bytes) -> str:
    """A command's bytes; zeros at the end are not written out."""
    if not data:
        return ""
    end = len(data.rstrip(b"\0"))
    if end < len(data) - 1:
        return f"({data[: end + 1].hex(' ')} ..) "
    return f"({data.hex(' ')}) "
