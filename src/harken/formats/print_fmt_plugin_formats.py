"""What ``print_fmt_plugins`` prints as formats and expressions, as ``print_fmt`` makes them of print formats.

A recording of system calls or of the allocator has hundreds of thousands of these events: compiled, a line takes a tenth of what a
function of the record takes, and the accelerator can print it (``print_fmt_program``).  Both ways print the same, which tests compare; the
functions stay for formats that lack a field.
"""

from __future__ import annotations

from .print_fmt_helpers import Memo
from .print_fmt_plugin_fields import Fields
from .print_fmt_plugins import FUTEX, tlb_reason
from .print_fmt_values import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .print_fmt_code import Coder

    #: (coder of the event, ``%`` format and arguments of its own print fmt) -> format and arguments.
    Change = Callable[[Coder, str, list[str]], tuple[str, list[str]]]

__all__ = ("change_of",)


def change_of(event: str) -> Change | None:
    """What makes the plugin's text of an event ("kmem:kfree") of that of its print fmt; None if no plugin does.

    It raises ``Unsupported`` where the event has not the fields.
    """
    return _CHANGES.get(event)


def _number(coder: Coder, name: str) -> str:
    """A field without its sign."""
    field = coder.event.field(name)
    letter = {1: "B", 2: "H", 4: "I", 8: "Q"}.get(field.size) if field is not None else None
    if field is None or letter is None:
        raise Unsupported(f"the format has no number {name}")
    return coder.slot(field.offset, letter)


def _call_site(coder: Coder, text: str, values: list[str]) -> tuple[str, list[str]]:
    fields = Fields(coder.event, coder.env)

    def head(address: int) -> str:
        found = fields.symbol(address)
        return f"({found[0]}+0x{address - found[1] & 0xFFFFFFFF:x}) " if found else ""

    return "%s" + text, [f"{coder.keep(Memo(head))}[{_number(coder, 'call_site')}]", *values]


def _hrtimer(coder: Coder, _text: str, _values: list[str]) -> tuple[str, list[str]]:
    fields = Fields(coder.event, coder.env)

    def place(address: int) -> str:
        found = fields.symbol(address)
        return f" function={found[0]}/0x{found[1] - address & 0xFFFFFFFFFFFFFFFF:x}" if found else f" function=0x{address:08x}"

    timer = _number(coder, "timer" if coder.event.field("timer") else "hrtimer")
    function = f"{coder.keep(Memo(place))}[{_number(coder, 'function')}]"
    if coder.event.name == "hrtimer_start":
        return "hrtimer=0x%x%s expires=%d softexpires=%d", [timer, function, _number(coder, "expires"), _number(coder, "softexpires")]
    return "hrtimer=0x%x now=%d%s", [timer, _number(coder, "now"), function]


def _tlb_flush(coder: Coder, _text: str, _values: list[str]) -> tuple[str, list[str]]:
    pages, reason = _number(coder, "pages"), _number(coder, "reason")
    return "pages=%d reason=%s (%d)", [coder.fold(pages, 8, True), f"{coder.keep(Memo(tlb_reason))}[{reason}]", reason]


def _futex(coder: Coder, text: str, values: list[str]) -> tuple[str, list[str]]:
    """The operation by name with the arguments that it has; unknown ones as the print fmt has them."""
    uaddr, operation, *numbers = [_number(coder, name) for name in ("uaddr", "op", "val", "utime", "uaddr2", "val3")]

    def head(value: int) -> str:
        name = FUTEX[value & 127][0]
        return f"op=FUTEX_{name}{'|FUTEX_PRIVATE_FLAG' * (value >> 7 & 1)}{'|FUTEX_CLOCK_REALTIME' * (value >> 8 & 1)}"

    form, parts = "%s uaddr=0x%08x", [f"{coder.keep(Memo(head))}[{operation}]", uaddr]
    for place, (label, number) in enumerate(zip(("val", "utime", "uaddr2", "val3"), numbers)):
        bits = {kind: sum([1 << command for command, row in enumerate(FUTEX) if row[1 + place] == kind]) for kind in "xd"}
        shown = f"' {label}=0x%08x' % ({number},) if 1 << ({operation} & 15) & {bits['x']} else ''"
        if bits["d"]:
            name = "val2" if label == "utime" else label
            shown = f"' {name}=%d' % ({number},) if 1 << ({operation} & 15) & {bits['d']} else {shown}"
        form += "%s"
        parts.append(f"({shown})")
    own = f"{text!r} % ({', '.join(values)},)" if values else repr(text)
    known = f"{operation} & {~(128 | 256) & (1 << 64) - 1:#x}"
    return "%s", [f"({form!r} % ({', '.join(parts)}) if ({known}) < {len(FUTEX)} else {own})"]


_CHANGES: dict[str, Change] = {
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
}
