"""Events whose text in the ``trace`` file is not made from their ``print fmt``.

The kernel prints system calls (kernel/trace/trace_syscalls.c) and its own ftrace events (kernel/trace/trace_output.c) with functions of
their own; the print fmt of these is for tools.  Function graph entries need the records around them and are made by
``analysis.function_graph`` and ``render.function_graph``.

The texts of ftrace's own events have no name before them: ``NAMELESS`` lists those.
"""

from __future__ import annotations

import struct

from .function_arguments import MOST
from .print_fmt_blktrace import blktrace_text
from .print_fmt_helpers import Memo, Texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .event_format import EventFormat
    from .print_fmt import Env

    Text = Callable[[bytes], str]

__all__ = ("special_text", "symbol_text", "NAMELESS", "binary_printf")

#: Events of category ftrace which the kernel prints without "name: ".
NAMELESS = frozenset(
    "function kernel_stack user_stack bputs bprint print raw_data func_repeats context_switch wakeup hwlat osnoise timerlat "
    "funcgraph_entry funcgraph_exit funcgraph_retaddr_entry mmiotrace_rw mmiotrace_map branch blktrace".split()
)
_STATES = "RSDTtXZPI"
#: Stands in a stack for a function tracer's own code (``FTRACE_TRAMPOLINE_MARKER``).
_TRAMPOLINE = 0x7FFFFFFF
_MOST_TEXT = 1 << 14  # letters that widths and precisions may add to a text: twice what the kernel has room for


def special_text(event: EventFormat, env: Env) -> Text | None:
    """The function from a record to its text in the kernel's ``trace`` file, or None for events that are printed by their print fmt."""
    maker = _MAKERS.get(event.name) if event.category == "ftrace" else None
    if event.category == "syscalls":
        maker = _enter if event.name.startswith("sys_enter_") else _exit if event.name.startswith("sys_exit_") else None
    try:
        return maker(event, env) if maker else None
    except KeyError:  # a field has another name or type than in the kernels known
        return None


def symbol_text(env: Env, offset: bool = False) -> Memo:
    """Address -> name as ``seq_print_ip_sym`` prints it: 0 is "0", an unknown one hex."""

    def text(address: int) -> str:
        if not address:
            return "0"
        found = env.symbol(address) if env.symbol else None
        if found is None:
            return f"0x{address:0{2 * env.long_size if env.long_size == 4 else 8}x}"
        if not offset:
            return found[0].partition(" [")[0]
        name, bracket, module = found[0].partition(" [")
        return f"{name}+0x{address - found[1]:x}" + (f"/0x{found[2]:x}" if found[2] else "") + bracket + module

    return Memo(text)


class _Numbers:
    """Reads integer fields of a record by name."""

    def __init__(self, event: EventFormat, env: Env) -> None:
        self.event, self.env = event, env
        self.order = "little" if env.order == "<" else "big"

    def __call__(self, name: str) -> Callable[[bytes], int]:
        field = self.event.field(name)
        if field is None or not field.number:
            raise KeyError(name)
        start, end, signed, order = field.offset, field.offset + field.size, field.signed, self.order
        return lambda record: int.from_bytes(record[start:end], order, signed=signed)  # type: ignore[arg-type]

    def offset(self, name: str) -> int:
        field = self.event.field(name)
        if field is None:
            raise KeyError(name)
        return field.offset


def _enter(event: EventFormat, env: Env) -> Text:
    name = event.name.removeprefix("sys_enter_")
    shown = []
    for field in event.own:
        if field.name != "__syscall_nr" and not field.data_loc:
            shown.append(field)
    number = struct.Struct(env.order + ("Q" if env.long_size == 8 else "I"))
    strings = {}
    for field in event.own:
        # the text that a pointer led to, since Linux 6.19
        if field.data_loc and field.name.startswith("__") and field.name.endswith("_val"):
            strings[field.name[2:-4]] = field
    texts = Texts()
    offsets = [field.offset for field in shown]
    line = f"sys_{name}(" + ", ".join([f"{field.name}: %s" for field in shown]) + ")"
    if env.bare_syscalls:
        bare = line.replace("%s", "%x")
        return lambda record: bare % tuple([number.unpack_from(record, offset)[0] for offset in offsets])

    def text(record: bytes) -> str:
        from .print_fmt_fields import dynamic

        values = [number.unpack_from(record, offset)[0] for offset in offsets]
        parts = [f"0x{value:x}" if value > 9 else str(value) for value in values]
        if strings:
            for i, field in enumerate(shown):
                if field.name in strings:
                    parts[i] += f' "{texts[dynamic(strings[field.name], record, env.order)]}"'
        return line % tuple(parts)

    return text


def _exit(event: EventFormat, env: Env) -> Text:
    name = event.name.removeprefix("sys_exit_")
    field = event.field("ret")
    if field is None:
        raise KeyError("ret")
    number = struct.Struct(env.order + ("Q" if field.size == 8 else "I"))
    offset = field.offset
    return lambda record: f"sys_{name} -> 0x{number.unpack_from(record, offset)[0]:x}"


def _function(event: EventFormat, env: Env) -> Text:
    read = _Numbers(event, env)
    ip, parent, names = read("ip"), read("parent_ip"), symbol_text(env)
    args = event.field("args")

    def text(record: bytes) -> str:
        caller, name = parent(record) & _mask(env), names[ip(record) & _mask(env)]
        shown = name
        if args is not None and env.arguments is not None and len(record) >= args.offset + env.long_size:
            shown += f"({env.arguments(name, _longs(record, args.offset, env)[:MOST])})"
        return shown + (f" <-{names[caller]}" if caller else "")

    return text


def _mask(env: Env) -> int:
    return (1 << 8 * env.long_size) - 1


def _longs(record: bytes, start: int, env: Env) -> tuple[int, ...]:
    count = max(0, (len(record) - start) // env.long_size)
    return struct.unpack_from(f"{env.order}{count}{'Q' if env.long_size == 8 else 'I'}", record, start)


def _kernel_stack(event: EventFormat, env: Env) -> Text:
    start, names, stop = _Numbers(event, env).offset("caller"), symbol_text(env), _mask(env)

    def text(record: bytes) -> str:
        lines = ["<stack trace>\n"]
        for address in _longs(record, start, env):
            if address == stop:
                break
            lines.append(" => [FTRACE TRAMPOLINE]\n" if address == _TRAMPOLINE else f" => {names[address]}\n")
        return "".join(lines)

    return text


def _user_stack(event: EventFormat, env: Env) -> Text:
    start = _Numbers(event, env).offset("caller")

    def text(record: bytes) -> str:
        lines = ["<user stack trace>\n"]
        for address in _longs(record, start, env)[:8]:
            if not address:
                break
            lines.append(f" =>  <{address:0{2 * env.long_size}x}>\n")
        return "".join(lines)

    return text


def _tail(record: bytes, start: int) -> str:
    end = record.find(0, start)
    return record[start : end if end >= 0 else len(record)].decode("utf-8", "surrogateescape")


def _print(event: EventFormat, env: Env) -> Text:
    read = _Numbers(event, env)
    ip, start, names = read("ip"), read.offset("buf"), symbol_text(env)
    return lambda record: f"{names[ip(record) & _mask(env)]}: {_tail(record, start)}"


def _bputs(event: EventFormat, env: Env) -> Text:
    read = _Numbers(event, env)
    ip, where, names = read("ip"), read("str"), symbol_text(env)

    def text(record: bytes) -> str:
        address = where(record) & _mask(env)
        found = env.string(address) if env.string else None
        return f"{names[ip(record) & _mask(env)]}: {found if found is not None else f'(0x{address:x})'}"

    return text


def _bprint(event: EventFormat, env: Env) -> Text:
    read = _Numbers(event, env)
    ip, where, start, names = read("ip"), read("fmt"), read.offset("buf"), symbol_text(env)

    def text(record: bytes) -> str:
        address = where(record) & _mask(env)
        found = env.string(address) if env.string else None
        head = f"{names[ip(record) & _mask(env)]}: "
        if found is None:
            return f"{head}(NO FORMAT FOUND at {address:x})\n"
        return head + binary_printf(found, record[start:], env)

    return text


def binary_printf(fmt: str, data: bytes, env: Env) -> str:
    """``bstr_printf``: a format whose arguments were stored one behind the other, numbers aligned to 4 bytes, texts with their NUL
    (lib/vsprintf.c, ``vbin_printf``)."""
    from .print_fmt_printf import CONVERSION

    order = "little" if env.order == "<" else "big"
    position, room = 0, _MOST_TEXT

    def number(size: int, signed: bool) -> int:
        nonlocal position
        align = min(size, 4)
        position = (position + align - 1) // align * align
        value = int.from_bytes(data[position : position + size], order, signed=signed)  # type: ignore[arg-type]
        position += size
        return value

    out, last = [], 0
    for match in CONVERSION.finditer(fmt):
        out.append(fmt[last : match.start()])
        last = match.end()
        kind, pointer = match.group("kind"), match.group("pointer")
        flags, width, precision = match.group("flags"), match.group("width") or "", match.group("precision") or ""
        if kind == "%":
            out.append("%")
            continue
        wide = number(4, True) if width == "*" else int(width[:9] or 0)
        precise = number(4, True) if precision == "*" else int(precision[:9] or 0)
        wide, precise = max(-room, min(wide, room)), min(precise, room)
        room -= max(abs(wide), precise, 0)
        width = str(wide) if wide else ""
        dot = f".{max(precise, 0)}" if match.group("dot") is not None and (precise >= 0 or kind != "s") else ""
        if kind == "s" or (pointer and pointer[1:2] not in ("", "x", "S", "s", "B", "f", "F")):
            end = data.find(0, position)
            end = len(data) if end < 0 else end
            text = data[position:end].decode("utf-8", "surrogateescape")
            position = end + 1
            out.append(f"%{flags.replace('0', '')}{width}{dot}s" % text if kind == "s" else text)
        elif pointer:
            value = number(env.long_size, False)
            if pointer[1:2] in ("S", "s", "B", "f", "F"):
                out.append(symbol_text(env, offset=pointer[1] in "SBF")[value])
            else:
                out.append(f"{value:0{2 * env.long_size}x}")
        elif kind == "c":
            out.append(f"%{flags.replace('0', '')}{width}s" % chr(number(1, False)))
        else:
            length = match.group("length") or ""
            size = {"": 4, "h": 2, "hh": 1, "ll": 8, "L": 8, "q": 8, "j": 8}.get(length, env.long_size)
            value = number(size, kind in ("d", "i"))
            if kind in ("d", "i", "u"):
                out.append(f"%{flags.replace('#', '')}{width}{dot}d" % value)
            elif kind in ("x", "X", "o"):
                out.append(f"%{flags}{width}{dot}{kind}" % value)
            else:
                out.append(match.group())
    out.append(fmt[last:])
    return "".join(out)


def _raw_data(event: EventFormat, env: Env) -> Text:
    read = _Numbers(event, env)
    number, start = read("id"), read.offset("buf")
    return lambda record: f"# {number(record) & 0xFFFFFFFF:x} buf:" + "".join([f" {byte:02x}" for byte in record[start:]]) + "\n"


def _context(event: EventFormat, env: Env) -> Text:
    read = _Numbers(event, env)
    names = "prev_pid prev_prio prev_state next_cpu next_pid next_prio next_state".split()
    readers = [read(name) for name in names]
    arrow = "==>" if event.name == "context_switch" else "  +"

    def state(value: int) -> str:
        return _STATES[value] if 0 <= value < len(_STATES) else "?"

    def text(record: bytes) -> str:
        pid, prio, before, cpu, next_pid, next_prio, after = [reader(record) for reader in readers]
        comm = env.comm(next_pid) if env.comm else "<...>"
        left = f" {pid:7d}:{prio:3d}:{state(before)} {arrow} [{cpu:03d}]"
        return f"{left} {next_pid:7d}:{next_prio:3d}:{state(after)} {comm}\n"

    return text


def _hwlat(event: EventFormat, env: Env) -> Text:
    read = _Numbers(event, env)
    readers = [read(n) for n in "seqnum duration outer_duration tv_sec tv_nsec count nmi_total_ts nmi_count".split()]

    def text(record: bytes) -> str:
        seq, inner, outer, seconds, nanoseconds, count, nmi_total, nmi_count = [reader(record) for reader in readers]
        tail = f" nmi-total:{nmi_total} nmi-count:{nmi_count}" if nmi_count else ""
        return f"#{seq:<5} inner/outer(us): {inner:4}/{outer:<5} ts:{seconds}.{nanoseconds:09d} count:{count}{tail}\n"

    return text


def _osnoise(event: EventFormat, env: Env) -> Text:
    read = _Numbers(event, env)
    readers = [read(n) for n in "runtime noise max_sample hw_count nmi_count irq_count softirq_count thread_count".split()]

    def text(record: bytes) -> str:
        runtime, noise, longest, *counts = [reader(record) for reader in readers]
        ratio = (runtime - noise) * 10000000 // runtime if runtime else 0
        head = f"{runtime} {noise:10} {ratio // 100000:3}.{ratio % 100000:05} {longest:7}"
        return head + "".join([f" {count:6}" for count in counts]) + "\n"

    return text


def _timerlat(event: EventFormat, env: Env) -> Text:
    read = _Numbers(event, env)
    seq, context, latency = read("seqnum"), read("context"), read("timer_latency")

    def text(record: bytes) -> str:
        where = ("irq", "thread", "user-ret")[min(2, max(0, context(record)))]
        return f"#{seq(record):<5} context {where:>6} timer_latency {latency(record):9} ns\n"

    return text


def _func_repeats(event: EventFormat, env: Env) -> Text:
    """Without the time of the last call, which needs the record's time: ``render.ftrace`` adds it."""
    function, count = _function(event, env), _Numbers(event, env)("count")
    return lambda record: f"{function(record)} (repeats: {count(record)}, last_ts:"


_MAKERS: dict[str, Callable[[EventFormat, Env], Text]] = {
    "function": _function,
    "kernel_stack": _kernel_stack,
    "user_stack": _user_stack,
    "print": _print,
    "bputs": _bputs,
    "bprint": _bprint,
    "raw_data": _raw_data,
    "context_switch": _context,
    "wakeup": _context,
    "hwlat": _hwlat,
    "osnoise": _osnoise,
    "timerlat": _timerlat,
    "func_repeats": _func_repeats,
    "blktrace": blktrace_text,
}
