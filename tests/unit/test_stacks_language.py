"""Stacks and symbols in the language: types, problems, and what programs do with a scripted stack."""

from __future__ import annotations

import struct
import sys

import pytest

sys.path.insert(0, __file__.rsplit("/", 1)[0])

import language_machine as machine  # noqa: E402

from harken.testing.interpreter import Interpreter  # noqa: E402

KERNEL = (0xFFFFFFFF81000010, 0xFFFFFFFF81000020, 0xFFFFFFFF81000030)
USER: tuple[int, ...] = (0x401000, 0x402000)
USER_STACK, BUILD_ID = 1 << 8, 1 << 11
PID = 77


class Stacks:
    """bpf_get_stack as kernel/bpf/stackmap.c does it: what it was asked, and answers by turn."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[int, int]] = []

    def __call__(self, machine: Interpreter, ctx: int, to: int, size: int, flags: int) -> int:
        self.asked.append((size, flags))
        answer = self.answers.pop(0) if self.answers else 0
        if answer < 0:
            machine.write(to, bytes(size))
            return answer
        if flags & BUILD_ID:
            data = b"".join([struct.pack("=i20sQ", 1, bytes(range(20)), 0x1234), struct.pack("=i20sQ", 2, bytes(20), 0x401000)])
        else:
            addresses = USER if flags & USER_STACK else KERNEL
            data = struct.pack(f"={len(addresses)}Q", *addresses)
        data = data[:size]
        machine.write(to, data + bytes(size - len(data)))
        return len(data)


# the interpreter passes as many registers as the fake's code object takes
def faked(stacks: Stacks):  # type: ignore[no-untyped-def]
    def get_stack(machine: Interpreter, ctx: int, to: int, size: int, flags: int) -> int:
        return stacks(machine, ctx, to, size, flags)

    return get_stack


def run(program: str, *answers: int, times: int = 1, params: tuple[str, ...] = (), **options) -> tuple[machine.Ran, Stacks]:  # type: ignore[no-untyped-def]
    made = machine.unit(program, params, **options)
    stacks = Stacks(*answers)
    interpreter = Interpreter(made.spec)
    interpreter.helpers["get_stack"] = faked(stacks)
    interpreter.pid_tgid = PID << 32 | PID
    for spec in made.spec.programs:
        for _ in range(times):
            interpreter.run(spec.name, bytes(64))
    return machine.Ran(made, interpreter), stacks


def losses(ran: machine.Ran) -> dict[tuple[str, str], int]:
    found = {}
    table = ran.machine.maps.get("harken_loss")
    for slot, name in enumerate(ran.unit.losses):
        region = table.values[struct.pack("=I", slot)] if table is not None else None
        if region is not None:
            found[name] = int.from_bytes(bytes(ran.machine.regions[region].data[:8]), "little")
    return {name: count for name, count in found.items() if count}


TEXT = "\n        0xffffffff81000010\n        0xffffffff81000020\n        0xffffffff81000030\n"


def test_records_carry_only_the_frames_that_there_are() -> None:
    ran, stacks = run('BEGIN { printf("%s|", kstack); }')
    assert ran.text == TEXT + "|"
    assert stacks.asked == [(127 * 8, 0)]
    (record,) = ran.machine.maps["harken_ring"].records
    assert len(record) == 16 + 3 * 8


def test_user_stacks_carry_their_process() -> None:
    ran, stacks = run("BEGIN { print(ustack(raw, 5)); }")
    assert ran.text == "\n401000\n402000\n\n"
    assert stacks.asked == [(40, USER_STACK)]
    ((_, raw),) = ran.actions
    assert int.from_bytes(raw[:4], "little") == PID


def test_modes_and_limits() -> None:
    program = "BEGIN { print(kstack()); print(kstack(2)); print(kstack(perf)); print(kstack(raw, $1)); print(ustack(build_id, 3)); }"
    ran, stacks = run(program, params=("1",))
    assert [size for size, _ in stacks.asked] == [1016, 16, 1016, 8, 96]
    assert stacks.asked[-1] == (96, USER_STACK | BUILD_ID)
    assert ran.text == (
        TEXT
        + "\n\n        0xffffffff81000010\n        0xffffffff81000020\n\n"
        + "".join(["\n", *(f"\t{address:x} [unknown]\n" for address in KERNEL), "\n"])
        + "\nffffffff81000010\n\n"
        + f"\n{bytes(range(20)).hex()} 0x1234\n401000\n\n"
    )


def test_the_mode_of_the_config_is_the_default() -> None:
    ran, _ = run("config = { stack_mode=raw } BEGIN { print(kstack(1)); print(kstack(perf, 1)); }")
    assert ran.text == "\nffffffff81000010\n\n\n\tffffffff81000010 [unknown]\n\n"


def test_keys_are_canonical_and_indented_by_four() -> None:
    ran, _ = run("BEGIN { @[kstack(9), comm] = count(); @u[ustack] = count(); }", times=3)
    assert [count for count in ran.map("@").values()] == [3]
    ((stack, comm),) = ran.map("@")
    assert stack == struct.pack("=9Q", *KERNEL, *[0] * 6)
    layout = ran.layout("@")
    lines = layout.text([((stack, comm), 3)])
    assert lines == f"@[\n    0xffffffff81000010\n    0xffffffff81000020\n    0xffffffff81000030\n, {comm}]: 3\n"
    (user,) = ran.map("@u")
    assert user == struct.pack("=Q", PID) + struct.pack("=127Q", *USER, *[0] * 125)


def test_stacks_are_values() -> None:
    ran, _ = run(
        "BEGIN { $s = kstack(4); @a = $s; @b[1] = ustack(4); print($s); print((1, kstack(1))); print((@a,)); print(@b[1]); "
        "for ($kv : @b) { print($kv.1); } }"
    )
    user = "\n        0x401000\n        0x402000\n\n"
    assert ran.text == TEXT + "\n(1, \n        0xffffffff81000010\n)\n(" + TEXT + ",)\n" + user + user


def test_length() -> None:
    ran, _ = run("BEGIN { print(len(kstack)); $s = ustack(5); print(len($s)); @x = kstack; print(len(@x)); print(len(ustack(build_id))); }")
    assert ran.text == "3\n2\n3\n2\n"


def test_inside_of_loops() -> None:
    ran, _ = run("BEGIN { for ($i : 0..2) { print(kstack(1)); } }")
    assert ran.text == "\n        0xffffffff81000010\n\n" * 2


def test_a_stack_that_could_not_be_taken_is_empty_and_counted() -> None:
    ran, _ = run("BEGIN { print(kstack); print(ustack); @[kstack] = count(); }", -14, -14, -14)
    assert ran.text == "\n\n\n\n"
    assert losses(ran) == {("stack", "kstack"): 2, ("stack", "ustack"): 1}


def test_no_stack_is_not_a_loss() -> None:
    global USER
    saved, USER = USER, ()
    try:
        ran, _ = run("BEGIN { print(ustack); print(len(ustack)); @[ustack(3)] = count(); }")
    finally:
        USER = saved
    assert ran.text == "\n\n0\n" and losses(ran) == {}


def test_json() -> None:
    from harken.render.values import key_json, row_json

    ran, _ = run("BEGIN { print(kstack(2)); @[kstack(1), 5] = 1; }")
    event = ran.unit.events[0]
    (record,) = ran.machine.maps["harken_ring"].records
    text = row_json(event.schema)(event.schema.row(record))
    assert text == '"\\n        0xffffffff81000010\\n        0xffffffff81000020\\n"'
    table = ran.unit.tables[0]
    (key,) = ran.map("@")
    assert key_json(table.key)(key) == '"\\n    0xffffffff81000010\\n,5"'


WRONG = [
    ("BEGIN { kstack(foo); }", "kstack() does not know 'foo'", "it knows bpftrace, perf, raw, build_id"),
    ("BEGIN { print(ustack(pref)); }", "ustack() does not know 'pref'", "did you mean perf?"),
    ("BEGIN { print(kstack(0)); }", "limit must be positive, 0 given", ""),
    ("BEGIN { print(kstack(1025)); }", "limit shouldn't exceed 1024, 1025 given", ""),
    ("BEGIN { print(kstack(pid + 1)); }", "expects a constant number of frames", "kstack(5)"),
    ("BEGIN { print(kstack(5, 5)); }", "expects a stack mode as first argument", "the modes are"),
    ("BEGIN { print(kstack(build_id)); }", "'build_id' stack mode can only be used for ustack", "use raw"),
    ("BEGIN { print(kstack + 1); }", "can not be used on expressions of types", ""),
    ("BEGIN { @ = kstack(5); @ = kstack(6); }", "Type mismatch", ""),
    ("BEGIN { @[kstack] = 1; @[ustack] = 1; }", "Argument mismatch", ""),
    ("BEGIN { @[kstack(perf, 3)] = 1; @[kstack(raw, 3)] = 1; }", "Argument mismatch", ""),
    ('BEGIN { printf("%d", kstack); }', "unsupported format specifier", "%s shows any value"),
    ("BEGIN { print(len(5)); }", "len() expects a map or a stack", ""),
    ("config = { stack_mode=fancy } BEGIN { }", "expecting bpftrace, perf, raw, build_id, dwarf, python or mixed, got fancy", ""),
    ("BEGIN { $s = ustack(dwarf); }", "can only be printed or be the key of an aggregation", "@[ustack(dwarf)] = count()"),
    ("BEGIN { @x = ustack(dwarf); }", "can only be printed or be the key of an aggregation", ""),
    ("BEGIN { print((1, ustack(dwarf))); }", "can only be printed or be the key of an aggregation", ""),
    ("BEGIN { print(len(ustack(dwarf))); }", "can only be printed or be the key of an aggregation", ""),
    ("BEGIN { print(kstack(dwarf)); }", "'dwarf' stack mode can only be used for ustack", "stacks of processes"),
    ("BEGIN { @[ustack(dwarf)] = 1; }", "the program cannot look there", "+= and ++"),
    ("BEGIN { @[ustack(dwarf)]++; print(@[ustack(dwarf)]); }", "the program cannot look there", ""),
    ("BEGIN { @[ustack(dwarf)] = count(); for ($kv : @) { } }", "the program cannot look there", ""),
    ("BEGIN { $n = @[ustack(dwarf)]++; }", "the program cannot look there", ""),
    ("BEGIN { @[ustack(dwarf)] = count(); delete(@, ustack(dwarf)); }", "the program cannot look there", ""),
    ("config = { user_stack_bytes=5 } BEGIN { }", "expecting a number from 256 to 28672, got 5", ""),
    ("BEGIN { print(ustack(python, 600)); }", "at most 512 frames, 600 given", ""),
    ("BEGIN { print(ustack(mixed, 600)); }", "at most 512 frames, 600 given", ""),
    ("config = { user_stack_bytes=28672 } BEGIN { print(ustack(mixed, 300)); }", "at most 32000 can be sent", "user_stack_bytes"),
    ("BEGIN { @[ustack(mixed)] = 1; }", "the program cannot look there", "+= and ++"),
    ('BEGIN { print(uaddr("main")); }', "The uaddr function can not be used with 'BEGIN' probes", "uprobe, uretprobe, usdt"),
]  # fmt: skip


@pytest.mark.parametrize("program, message, hint", WRONG, ids=range(len(WRONG)))
def test_wrong(program: str, message: str, hint: str) -> None:
    found = machine.problems(program)
    assert message in found[0].message and hint in found[0].hint, found
