"""Texts of libtraceevent's plugins: as a function of the record, compiled, and by the accelerator."""

from __future__ import annotations

import random

import pytest

from harken.formats.event_format import EventFormat, parse
from harken.formats.print_fmt import Env, compile_format
from harken.formats.print_fmt_plugin_formats import _CHANGES
from harken.formats.print_fmt_plugins import handler
from harken.formats.print_fmt_program import Program
from harken.testing.ring_builder import record

COMMON = """\
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

"""


def event(category: str, name: str, fields: str, fmt: str) -> EventFormat:
    """``fields``: "type name" of eight bytes each."""
    rows = "".join([f"\tfield:{field};\toffset:{8 + 8 * n};\tsize:8;\tsigned:0;\n" for n, field in enumerate(fields.split(", "))])
    return parse(f"name: {name}\nID: 300\nformat:\n{COMMON}{rows}\nprint fmt: {fmt}\n", category)


FUTEX_FIELDS = "u32 * uaddr, int op, u32 val, const struct timespec * utime, u32 * uaddr2, u32 val3"
EVENTS = {
    "syscalls:sys_enter_futex": (FUTEX_FIELDS, '"uaddr: 0x%08lx, op: 0x%08lx", REC->uaddr, REC->op'),
    "timer:hrtimer_start": ("void * hrtimer, void * function, s64 expires, s64 softexpires", '"x"'),
    "timer:hrtimer_expire_entry": ("void * hrtimer, s64 now, void * function", '"x"'),
    "tlb:tlb_flush": ("int reason, unsigned long pages", '"x"'),
} | {
    name: ("unsigned long call_site, const void * ptr", '"call_site=%pS ptr=%p", (void *)REC->call_site, REC->ptr')
    for name in _CHANGES
    if name.startswith("kmem:")
}
VALUES = [0, 1, 2, 3, 7, 12, 13, 128, 128 + 9, 256 + 5, 384 + 3, 1 << 9, 0x1008, 0x2FF0, (1 << 64) - 5, 1 << 63, 0xFFFFFFFF, 15, 16, 17]


def symbol(address: int) -> tuple[str, int, int] | None:
    return (f"function_{address >> 12} [mod]", address & ~0xFFF, 0) if 0x1000 <= address < 0x3000 else None


@pytest.mark.parametrize("name", sorted(_CHANGES))
@pytest.mark.parametrize("dialect", ["trace-cmd", "trace-cmd-3.1"])
def test_compiled_texts_are_those_of_the_function(name: str, dialect: str) -> None:
    category, _, short = name.partition(":")
    found, env = event(category, short, *EVENTS[name]), Env("<", 8, dialect, symbol=symbol)
    by_function, compiled = handler(found, env), compile_format(found, env)
    assert by_function is not None and compiled.parts, "the event has all that the plugin needs"
    rng = random.Random(name)
    seen = set()
    for _ in range(600):
        data = record(found, {field.name: rng.choice(VALUES) for field in found.own})
        text = by_function(data)
        assert compiled(data) == text
        seen.add(text)
    assert len(seen) > 100
    text, values, slots, names, _ = compiled.parts
    Program(text, values, slots, names, bytearray(), made := [])
    assert len(made) <= 2, "all but names is left to the accelerator"


def test_every_operation_of_a_futex_has_its_arguments() -> None:
    found, env = event("syscalls", "sys_enter_futex", *EVENTS["syscalls:sys_enter_futex"]), Env("<", 8, "trace-cmd")
    by_function, compiled = handler(found, env), compile_format(found, env)
    assert by_function is not None
    for operation in range(1024):
        data = record(found, {"uaddr": 0x1000, "op": operation, "val": 5, "utime": 6, "uaddr2": 7, "val3": 8})
        assert compiled(data) == by_function(data)
    data = record(found, {"uaddr": 0x1000, "op": 128, "val": 5, "utime": 6})
    assert compiled(data) == "op=FUTEX_WAIT|FUTEX_PRIVATE_FLAG uaddr=0x00001000 val=0x00000005 utime=0x00000006"


def test_a_format_without_the_fields_is_left_to_the_function() -> None:
    found = event("kmem", "kfree", "const void * ptr", '"ptr=%p", REC->ptr')
    assert compile_format(found, Env("<", 8, "trace-cmd"))(record(found, {"ptr": 0x10})) == "ptr=0x10"
