"""Events that ``trace-cmd report`` prints in its own way: the handlers of libtraceevent's plugins and of trace-cmd itself.

``handler`` gives the function from a record to its text, or None where the print fmt is used.  Plugin options (``-O ftrace:parent``,
``ftrace:offset``) are options here.  The indented function trace (``ftrace:indent``) and the function graph depend on the records before
and are rendered where those are known: ``render.ftrace_report``, ``render.function_graph``.  KVM's events are in ``print_fmt_kvm``.
"""

from __future__ import annotations

from ..base.errors import FormatError
from .print_fmt_blktrace import blktrace_text
from .print_fmt_plugin_fields import Fields, c_int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .event_format import EventFormat
    from .print_fmt import Env
    from .print_fmt_parse import Tree
    from .print_fmt_plugin_fields import Text

__all__ = ("FUTEX", "handler", "handler_format", "kernel_stack_text", "tlb_reason")

_STATES, _NEW_STATES = "SDTtZXxW", "SDTtXZPI"
_TLB = ("flush on task switch", "remote shootdown", "local shootdown", "local mm shootdown")

#: FUTEX_* commands (include/uapi/linux/futex.h): which arguments each of them has, and in which form.
FUTEX = (
    ("WAIT", "x", "x", "", ""),
    ("WAKE", "d", "", "", ""),
    ("FD", "d", "", "", ""),
    ("REQUEUE", "d", "d", "x", ""),
    ("CMP_REQUEUE", "d", "d", "x", "x"),
    ("WAKE_OP", "d", "d", "x", "x"),
    ("LOCK_PI", "", "x", "", ""),
    ("UNLOCK_PI", "", "", "", ""),
    ("TRYLOCK_PI", "", "", "", ""),
    ("WAIT_BITSET", "x", "x", "", "x"),
    ("WAKE_BITSET", "d", "", "", "x"),
    ("WAIT_REQUEUE_PI", "x", "x", "x", "x"),
    ("CMP_REQUEUE_PI", "d", "d", "x", "x"),
)


def handler(event: EventFormat, env: Env) -> Text | None:
    """The function that a plugin of libtraceevent 1.7.1 or trace-cmd has for the event; None if there is none."""
    if event.category in ("kvm", "kvmmmu"):
        from .print_fmt_kvm import HANDLERS

        maker = HANDLERS.get(event.name)
    else:
        maker = _HANDLERS.get(f"{event.category}:{event.name}")
    return maker(Fields(event, env)) if maker else None


def handler_format(event: EventFormat, env: Env) -> str:
    """The print fmt that has the text of ``handler``, "" if none has: the scheduler's events are the most frequent ones, and a compiled
    format is several times as fast as a function of the record.
    """
    if event.category != "sched":
        return ""
    names = {field.name for field in event.own if field.size in (1, 2, 4, 8, 16)}
    if event.name == "sched_switch" and names >= {f"{side}_{what}" for side in ("prev", "next") for what in ("comm", "pid", "prio")}:
        letters = _state_letters(Fields(event, env))
        if "prev_state" in names and letters.isalpha() and letters.isascii():
            state = f"REC->prev_state & {(1 << len(letters)) - 1:#x}"
            flags = ", ".join([f'{{ {1 << bit:#x}, "{letter}" }}' for bit, letter in enumerate(letters)])
            ends = "REC->prev_comm, REC->prev_pid, REC->prev_prio", "REC->next_comm, REC->next_pid, REC->next_prio"
            middle = f'{state} ? __print_flags({state}, "|", {flags}) : "R"'
            return f'"%s:%u [%d] %s ==> %s:%u [%d]", {ends[0]}, {middle}, {ends[1]}'
    if event.name in ("sched_wakeup", "sched_wakeup_new") and names >= {"comm", "pid"}:
        text, values = "%s:%u", ["REC->comm", "REC->pid"]
        for name, form in (("prio", " [%u]"), ("success", " success=%u"), ("target_cpu", " CPU:%03u")):
            if name in names:
                text += form
                values.append(f"REC->{name}")
        return f'"{text}", {", ".join(values)}'
    return ""


def _long(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _state_letters(fields: Fields) -> str:
    """The letters of task states by bit.  Since 1.8 libtraceevent takes them from the flags of the event's own print fmt."""
    if fields.env.dialect == "trace-cmd-3.1":
        return _STATES
    from .print_fmt_tep_parse import parse

    try:
        _, arguments = parse(fields.event.print_fmt)
    except FormatError:
        return _NEW_STATES
    found = next((call for tree in arguments for call in _flag_calls(tree) if _has_field(call[2][0], "prev_state")), None)
    if found is None:
        return _NEW_STATES
    letters: dict[int, str] = {}
    for entry in found[2][2:]:
        value, name = entry[1][0], entry[1][1]
        if value[0] == "num" and name[0] == "str" and value[1] > 0:
            letters.setdefault((value[1] & -value[1]).bit_length() - 1, name[1][:1])
    known = next(bit for bit in range(65) if bit not in letters)
    return "".join([letters[bit] for bit in range(known)])  # a gap ends the list


def _flag_calls(tree: Tree) -> Iterator[Tree]:
    if tree[0] == "call" and tree[1].startswith("__print_flags"):
        yield tree
    for part in tree[1:]:
        for inner in part if isinstance(part, list) else (part,):
            if isinstance(inner, tuple):
                yield from _flag_calls(inner)


def _has_field(tree: Tree, name: str) -> bool:
    """Whether a field is the first one that an expression names."""
    while tree[0] in ("binary", "cast"):
        tree = tree[2]
    return tree[:2] == ("field", name)


def _state(value: int, letters: str) -> str:
    return "|".join([letter for bit, letter in enumerate(letters) if value >> bit & 1]) or "R"


def _sched_switch(fields: Fields) -> Text | None:
    prev_pid, next_pid, state = fields.number("prev_pid"), fields.number("next_pid"), fields.number("prev_state")
    prev_prio, next_prio = fields.number("prev_prio"), fields.number("next_prio")
    prev_comm, next_comm = fields.text("prev_comm"), fields.text("next_comm")
    letters = _state_letters(fields)

    def text(record: bytes) -> str:
        pid, other = prev_pid(record), next_pid(record)
        if pid is None or other is None:
            return "!"
        parts = [f"{prev_comm(record)}:" if prev_comm else "", f"{pid} "]
        prio, status = prev_prio(record), state(record)
        if prio is not None:
            parts.append(f"[{c_int(prio)}] ")
        if status is not None:
            parts.append(_state(status, letters))
        parts.append(" ==> ")
        parts.append(f"{next_comm(record)}:{other}" if next_comm else str(other))
        prio = next_prio(record)
        if prio is not None:
            parts.append(f" [{c_int(prio)}]")
        return "".join(parts)

    return text


def _sched_wakeup(fields: Fields) -> Text | None:
    pid, prio, success, cpu = (fields.number(name) for name in ("pid", "prio", "success", "target_cpu"))
    comm = fields.text("comm")

    def text(record: bytes) -> str:
        number = pid(record)
        if number is None:
            return "!"
        parts = [f"{comm(record)}:{number}" if comm else str(number)]
        for read, form in ((prio, " [%d]"), (success, " success=%d"), (cpu, " CPU:%03d")):
            value = read(record)
            if value is not None:
                parts.append(form % value)
        return "".join(parts)

    return text


def _hrtimer(fields: Fields) -> Text | None:
    timer = fields.number("timer" if fields.event.field("timer") else "hrtimer")
    function, now, expires, soft = (fields.number(name) for name in ("function", "now", "expires", "softexpires"))
    start = fields.event.name == "hrtimer_start"

    def name(record: bytes) -> str:
        address = function(record)
        if address is None:
            return ""
        found = fields.symbol(address)
        place = f"{found[0]}/0x{found[1] - address & 0xFFFFFFFFFFFFFFFF:x}" if found else f"0x{address:08x}"
        return f" function={place}"

    def text(record: bytes) -> str:
        head = f"hrtimer=0x{timer(record) or 0:x}"
        if start:
            return f"{head}{name(record)} expires={expires(record)} softexpires={soft(record)}"
        return f"{head} now={now(record)}{name(record)}"

    return text


def _call_site(fields: Fields) -> Text | None:
    """The caller's name before the text of the print fmt."""
    from .print_fmt import compile_print_fmt

    site = fields.number("call_site")
    rest = compile_print_fmt(fields.event, fields.env)

    def text(record: bytes) -> str:
        address = site(record)
        found = fields.symbol(address) if address is not None else None
        head = f"({found[0]}+0x{(address or 0) - found[1] & 0xFFFFFFFF:x}) " if found else ""
        return head + rest(record)

    return text


def _tlb_flush(fields: Fields) -> Text | None:
    pages, reason = fields.number("pages"), fields.number("reason")

    def text(record: bytes) -> str:
        why = reason(record) or 0
        return f"pages={_long(pages(record) or 0)} reason={tlb_reason(why)} ({why})"

    return text


def tlb_reason(why: int) -> str:
    """Why pages of address translations were forgotten, in libtraceevent's words."""
    return _TLB[why] if why < len(_TLB) else ""


def _futex(fields: Fields) -> Text | None:
    from .print_fmt import compile_print_fmt

    readers = [fields.number(name) for name in ("uaddr", "op", "val", "utime", "uaddr2", "val3")]
    rest = compile_print_fmt(fields.event, fields.env)

    def text(record: bytes) -> str:
        values = [reader(record) for reader in readers]
        if any(value is None for value in values):
            return rest(record)
        uaddr, operation, *numbers = [value or 0 for value in values]
        command = operation & ~(128 | 256) & 0xFFFFFFFFFFFFFFFF
        if command >= len(FUTEX):
            return rest(record)
        name, *forms = FUTEX[command]
        parts = [f"op=FUTEX_{name}"]
        parts += ["|FUTEX_PRIVATE_FLAG"] if operation & 128 else []
        parts += ["|FUTEX_CLOCK_REALTIME"] if operation & 256 else []
        parts.append(f" uaddr=0x{uaddr:08x}")
        for label, form, value in zip(("val", "utime", "uaddr2", "val3"), forms, numbers):
            if form:
                shown = "val2" if label == "utime" and form == "d" else label
                parts.append(f" {shown}=0x{value:08x}" if form == "x" else f" {shown}={value}")
        return "".join(parts)

    return text


def kernel_stack_text(event: EventFormat, env: Env, offset: bool = False) -> Text:
    """The text of ``ftrace:kernel_stack``; ``offset``: places within functions too (``-O ftrace:offset``)."""
    text = _kernel_stack(Fields(event, env), offset)
    return text or (lambda record: "")


def _kernel_stack(fields: Fields, offset: bool = False) -> Text | None:
    field = fields.event.field("caller")
    if field is None:
        return None
    size, order = fields.env.long_size, "little" if fields.env.order == "<" else "big"
    start, stop = field.offset, (1 << 8 * fields.env.long_size) - 1

    def text(record: bytes) -> str:
        lines = ["<stack trace >\n"]
        for at in range(start, len(record) - size + 1, size):  # also what lies behind the stack, as Linux 6.1's timerlat leaves room there
            address = int.from_bytes(record[at : at + size], order)  # type: ignore[arg-type]
            if address == stop or address & 0xFFFFFFFF == 0xFFFFFFFF:
                break
            found = fields.symbol(address)
            place = f"+0x{address - found[1] & 0xFFFFFFFF:x} " if found and offset else ""
            lines.append(f"=> {found[0]}{place} ({address:x})\n" if found else f"=> {address:x}\n")
        return "".join(lines)

    return text


def _raw_data(fields: Fields) -> Text | None:
    number, field = fields.number("id"), fields.event.field("buf")
    start = field.offset if field else 0
    return lambda record: f"# {number(record) or 0:x}" + "".join([f" {byte:02x}" for byte in record[start:]])


def _function(fields: Fields) -> Text | None:
    """Without indentation; ``render.ftrace_report`` adds it."""
    ip = fields.number("ip")

    def text(record: bytes) -> str:
        address = ip(record) or 0
        found = fields.symbol(address)
        return found[0] if found else f"0x{address:x}"

    return text


def _bprint(fields: Fields) -> Text | None:
    from .print_fmt_kernel import binary_printf

    ip, where, buf = fields.number("ip"), fields.number("fmt"), fields.event.field("buf")
    start = buf.offset if buf else 0
    env = fields.env

    def text(record: bytes) -> str:
        address, at = where(record) or 0, ip(record) or 0
        found = fields.symbol(at)
        head = f"{found[0] if found else f'0x{at:x}'}: "
        fmt = env.string(address) if env.string else None
        if fmt is None:
            return f"{head}(NO FORMAT FOUND at {address:x})\n"
        return head + binary_printf(fmt, record[start:], env)

    return text


def _bss_info(fields: Fields) -> Text | None:
    from .print_fmt_fields import dynamic

    def string(name: str, record: bytes) -> str:
        field = fields.event.field(name)
        if field is None:
            return f"NOTFOUND:{name}"
        raw = dynamic(field, record, fields.env.order) if field.data_loc else record[field.offset : field.offset + field.size]
        return fields.texts[raw]

    def num(name: str, form: str, record: bytes) -> str:
        value = fields.number(name)(record)
        if value is None:
            return f'CAN\'T FIND FIELD "{name}"'
        value = c_int(value) if form == "d" else value & 0xFFFFFFFF
        return f"{name}:{value}" if form == "d" else f"{name}:{f'{value:#x}' if value else '0'}"

    def text(record: bytes) -> str:
        indent = "\n" + " " * 65
        kind = fields.number("vif_type")(record) or 0
        return (
            f"{string('wiphy_name', record)} vif:{string('vif_name', record)}({c_int(kind)}){indent}"
            + "".join([num(name, "d", record) + " " for name in ("assoc", "aid", "cts", "shortpre", "shortslot", "dtimper")])
            + f"{indent}{num('bcnint', 'd', record)} {num('assoc_cap', 'x', record)} {num('basic_rates', 'x', record)} "
            + f"{num('enable_beacon', 'd', record)}{indent}{num('ht_operation_mode', 'd', record)}"
        )

    return text


_HANDLERS: dict[str, Callable[[Fields], Text | None]] = {
    "sched:sched_switch": _sched_switch,
    "sched:sched_wakeup": _sched_wakeup,
    "sched:sched_wakeup_new": _sched_wakeup,
    "timer:hrtimer_expire_entry": _hrtimer,
    "timer:hrtimer_start": _hrtimer,
    "kmem:kfree": _call_site,
    "kmem:kmalloc": _call_site,
    "kmem:kmalloc_node": _call_site,
    "kmem:kmem_cache_alloc": _call_site,
    "kmem:kmem_cache_alloc_node": _call_site,
    "kmem:kmem_cache_free": _call_site,
    "tlb:tlb_flush": _tlb_flush,
    "syscalls:sys_enter_futex": _futex,
    "mac80211:drv_bss_info_changed": _bss_info,
    "ftrace:function": _function,
    "ftrace:kernel_stack": _kernel_stack,
    "ftrace:raw_data": _raw_data,
    "ftrace:bprint": _bprint,
    "ftrace:blktrace": lambda fields: blktrace_text(fields.event, fields.env),
}
