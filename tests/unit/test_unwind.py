"""Unwinding made-up stacks: the quick way, the general way, both machines, and stacks that make no sense."""

from __future__ import annotations

import random
import struct

import pytest

from harken.formats.elf import Elf
from harken.symbols.model import Mapping
from harken.symbols.processes import Processes
from harken.symbols.unwind.unwinder import COMPLETE, LIMIT, LOST, TRUNCATED, Unwinder
from harken.testing.elf_builder import ElfBuilder

BASE = 0x401000
LOADED = 0x5555_0000_1000
BIAS = LOADED - BASE
STACK = 0x7FFF_0000_1000
PID = 42


def entry(body: bytes) -> bytes:
    body += bytes(-(len(body) + 4) % 8)
    return struct.pack("<I", len(body)) + body


X86 = bytes((1, 0x78, 16, 1, 0x04)) + b"\x0c\x07\x08\x90\x01"  # CFA = rsp + 8, return address at CFA - 8
ARM = bytes((4, 0x78, 30, 1, 0x04)) + b"\x0c\x1f\x00"  # CFA = sp


def frames(functions: list[tuple[int, int, bytes, bytes]], common: bytes) -> bytes:
    """``functions``: (offset of the start, size, augmentation, program)."""
    data = b""
    for start, size, augmentation, program in functions:
        cie = entry(struct.pack("<IB", 0, 1) + augmentation + b"\0" + common)
        data += cie + entry(struct.pack("<IQQ", len(cie) + 4, BASE + start, size) + b"\0" + program)
    return data


def unwinder(functions: list[tuple[int, int, bytes, bytes]], machine: str = "x86_64", memory=None) -> Unwinder:
    number, common = (62, X86) if machine == "x86_64" else (183, ARM)
    elf = Elf(ElfBuilder(machine=number).section(".eh_frame", frames(functions, common), address=0x8000).build())
    processes = Processes(None)
    processes.add(PID, Mapping(LOADED, LOADED + 0x1000, 0x1000, "/bin/program"))
    processes.add(PID, Mapping(LOADED + 0x100000, LOADED + 0x101000, 0, ""))
    return Unwinder(machine, processes, lambda _pid, mapping: elf if mapping.path else None, memory)


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def at(offset: int) -> int:
    return LOADED + offset


PLAIN = (0x000, 0x100, b"zR", b"")  # leaf: nothing on the stack
PUSHED = (0x100, 0x100, b"zR", b"\x0e\x20")  # CFA = rsp + 32
FRAMED = (0x200, 0x100, b"zR", b"\x86\x02\x0c\x06\x10")  # CFA = rbp + 16, rbp saved
SAVES = (0x300, 0x100, b"zR", b"\x0e\x20\x86\x02\x83\x03")  # rbp and rbx saved
REALIGNED = (0x400, 0x100, b"zR", b"\x0c\x03\x10\x86\x03")  # CFA = rbx + 16
START = (0x500, 0x0F0, b"zR", b"\x07\x10")  # the return address is undefined: outermost
SIGNAL = (0x600, 0x100, b"zRS", b"\x0f\x03\x77\x18\x06" + b"\x10\x10\x02\x77\x00" + b"\x10\x06\x02\x77\x08" + b"\x10\x03\x02\x77\x10")
EVERY = [PLAIN, PUSHED, FRAMED, SAVES, REALIGNED, START, SIGNAL]


def test_the_usual_ways_to_find_a_caller() -> None:
    stack = words(
        at(0x110),  # return address of the leaf
        1, 2, 3, at(0x210),  # PUSHED
        4, 5, STACK + 80, at(0x310),  # FRAMED: rbp is 56 above the start
        6, 7, 8, at(0x510),  # SAVES
    )  # fmt: skip
    walk = unwinder(EVERY).walk(PID, {"ip": at(0x10), "sp": STACK, "bp": STACK + 56}, stack)
    assert walk.addresses == [at(0x10), at(0x110), at(0x210), at(0x310), at(0x510)]
    assert (walk.end, walk.exact) == (COMPLETE, (0,))


def test_other_registers_are_followed_where_rows_need_them() -> None:
    """A realigned frame (CFA from rbx) above one that saved rbx: the whole register file is needed."""
    stack = words(
        at(0x310),
        9, STACK + 80, 0, at(0x410),  # SAVES: rbx is restored to STACK + 80
        11, 12, 13, 14, STACK + 200,  # rbp of the realigned frame at CFA - 24
        15, at(0x510),  # CFA = rbx + 16
    )  # fmt: skip
    found = unwinder(EVERY)
    walk = found.walk(PID, {"ip": at(0x10), "sp": STACK, "bp": 0, "bx": 0}, stack)
    assert walk.addresses == [at(0x10), at(0x310), at(0x410), at(0x510)]
    assert walk.end == COMPLETE
    pointers = found.walk(PID, {"ip": at(0x10), "sp": STACK, "bp": 0, "bx": 0}, stack, pointers=True).pointers
    assert pointers == (STACK, STACK + 8, STACK + 40, STACK + 96)


def test_a_signal_frame_is_an_instruction_and_may_change_the_stack() -> None:
    context = (at(0x200), STACK + 72, 0xB0)  # ip (the first instruction of FRAMED), bp, bx
    stack = words(at(0x600), *context, STACK + 56, 0, 0, 0, 0, 0, at(0x510))
    walk = unwinder(EVERY).walk(PID, {"ip": at(0x10), "sp": STACK, "bp": 0, "bx": 0}, stack)
    assert walk.addresses == [at(0x10), at(0x600), at(0x200), at(0x510)]
    assert walk.exact == (0, 2)


def test_both_ways_agree_on_random_stacks() -> None:
    source = random.Random(1)
    found = unwinder(EVERY)
    for _ in range(300):
        stack, kinds = [], []
        pc = at(source.randrange(0x100))
        for _frame in range(source.randrange(1, 12)):
            kinds.append(source.choice((PUSHED, SAVES)))
            stack += [at(kinds[-1][0] + source.randrange(1, 0x100))]
            stack += [source.getrandbits(47) for _ in range(3)]
        stack += [at(0x520)] + [0] * 4
        registers = {"ip": pc, "sp": STACK, "bp": source.getrandbits(47), "bx": 0}
        quick = found.walk(PID, registers, words(*stack))
        assert quick == found.walk(PID, registers, words(*stack), pointers=True).replace(pointers=())
        assert len(quick.addresses) == len(kinds) + 2 and quick.end == COMPLETE


def test_reasons_to_end() -> None:
    found = unwinder(EVERY)
    registers = {"ip": at(0x10), "sp": STACK, "bp": 0}
    assert found.walk(PID, registers, b"").end == TRUNCATED
    assert found.walk(PID, registers, words(at(0x110), 0, 0)).end == TRUNCATED
    assert found.walk(PID, registers, words(0)).end == COMPLETE  # a zero return address: threads start so
    assert found.walk(PID, registers, words(0xDEAD0000)).addresses == [at(0x10)]
    assert found.walk(PID, registers, words(0xDEAD0000)).end == LOST
    deep = words(*[at(0x110), 0, 0, 0] * 50)
    walk = found.walk(PID, registers, deep, limit=10)
    assert (len(walk.addresses), walk.end) == (10, LIMIT)
    assert found.walk(PID, {}, b"").addresses == []
    assert found.unwind(PID, registers, deep, 1) == [at(0x10)]
    # a frame pointer that leads down would walk for ever
    assert found.walk(PID, {"ip": at(0x210), "sp": STACK, "bp": STACK - 64}, words(1, 2, 3)).end == LOST
    assert found.walk(PID, {"ip": at(0x210), "sp": STACK, "bp": STACK + 1}, words(1, 2, 3)).end == LOST


def test_popped_registers_at_the_end_of_a_function() -> None:
    """After the pops the rows still name slots below the stack pointer; the registers hold the values."""
    epilogue = (0x700, 0x100, b"zR", b"\x0e\x08\x86\x02\x83\x03")  # CFA = rsp + 8 again, rbp and rbx "saved" below rsp
    stack = words(at(0x210), 0, STACK + 999, at(0x510))
    for memory in (None, lambda _address, size: bytes(size)):  # what lies there by now is of a later time
        found = unwinder([*EVERY, epilogue], memory=memory)
        for pointers in (False, True):
            walk = found.walk(PID, {"ip": at(0x710), "sp": STACK, "bp": STACK + 16, "bx": 5}, stack, pointers=pointers)
            assert walk.addresses == [at(0x710), at(0x210), at(0x510)]


def test_code_that_nobody_describes_is_crossed_by_frame_pointers() -> None:
    jit = LOADED + 0x100010
    stack = words(7, 7, STACK + 48, at(0x110), 1, 2, 3, 4, 5) + words(at(0x510))
    walk = unwinder(EVERY).walk(PID, {"ip": jit, "sp": STACK, "bp": STACK + 16}, words(7, 7, STACK + 48, at(0x110), 1, 2, 3, at(0x510)))
    assert walk.addresses == [jit, at(0x110), at(0x510)]
    walk = unwinder(EVERY).walk(PID, {"ip": jit, "sp": STACK, "bp": STACK + 8}, stack)
    assert (walk.addresses, walk.end) == ([jit], LOST)  # no code there


def test_a_call_to_nowhere_still_shows_the_caller() -> None:
    walk = unwinder(EVERY).walk(PID, {"ip": 0x10, "sp": STACK, "bp": 0}, words(at(0x110), 0, 0, 0, at(0x510)))
    assert walk.addresses == [0x10, at(0x110), at(0x510)]


def test_a_call_at_the_end_of_a_function_belongs_to_it() -> None:
    """A function that ends with a call to one that does not return: the return address is the next function's first instruction."""
    walk = unwinder(EVERY).walk(PID, {"ip": at(0x10), "sp": STACK, "bp": 0}, words(at(0x200), 1, 2, 3, at(0x510)))
    assert walk.addresses == [at(0x10), at(0x200), at(0x510)]


def test_memory_beyond_the_copy_is_read_if_it_can_be() -> None:
    whole = words(at(0x110), 1, 2, 3, at(0x510))

    def memory(address: int, size: int) -> bytes | None:
        return whole[address - STACK : address - STACK + size] if address >= STACK else None

    walk = unwinder(EVERY, memory=memory).walk(PID, {"ip": at(0x10), "sp": STACK, "bp": 0}, whole[:16])
    assert walk.addresses == [at(0x10), at(0x110), at(0x510)] and walk.end == COMPLETE


@pytest.mark.parametrize(
    ("machine", "code"),
    [
        ("x86_64", "f30f1efa"), ("x86_64", "ff2500000000"), ("x86_64", "f2ff2500000000"), ("x86_64", "c3"),
        ("aarch64", "30fdff90"), ("aarch64", "11fe47f9"), ("aarch64", "10e23f91"), ("aarch64", "20021fd6"), ("aarch64", "5f2403d5"),
    ],
)  # fmt: skip
def test_stubs_without_frame_information(machine: str, code: str) -> None:
    raw = bytearray(ElfBuilder(machine=62 if machine == "x86_64" else 183).build())
    raw[0x1040 : 0x1040 + len(code) // 2] = bytes.fromhex(code)
    elf = Elf(bytes(raw))
    found = unwinder(EVERY if machine == "x86_64" else ARM_ALL, machine)
    stub = 0x6666_0000_0000
    found._code._processes.add(PID, Mapping(stub, stub + 0x1000, 0x1000, "/lib/stubs"))
    open_file = found._code._open_file
    found._code._open_file = lambda pid, mapping: elf if mapping.path == "/lib/stubs" else open_file(pid, mapping)
    registers = {"sp": STACK, "ip": stub + 0x40, "pc": stub + 0x40, "bp": 0, "lr": at(0x510), "x29": 0}
    for pointers in (False, True):
        walk = found.walk(PID, registers, words(at(0x510)), pointers=pointers)
        assert walk.addresses == [stub + 0x40, at(0x510)]
        walk = found.walk(PID, {**registers, "ip": stub + 0x50, "pc": stub + 0x50}, words(at(0x510)), pointers=pointers)
        assert walk.addresses == [stub + 0x50]


def test_new_mappings_are_noticed() -> None:
    found = unwinder(EVERY)
    registers = {"ip": at(0x10), "sp": STACK, "bp": 0}
    other = 0x6666_0000_0000
    assert found.unwind(PID, registers, words(other + 0x110, 0, 0, 0, at(0x510))) == [at(0x10)]
    found._code._processes.add(PID, Mapping(other, other + 0x1000, 0x1000, "/lib/plugin"))
    assert found.unwind(PID, registers, words(other + 0x110, 0, 0, 0, at(0x510))) == [at(0x10), other + 0x110, at(0x510)]


# -- arm64

ARM_LEAF = (0x000, 0x100, b"zR", b"")  # the return address is in x30
ARM_FRAME = (0x100, 0x100, b"zR", b"\x0e\x20\x9d\x04\x9e\x03")  # CFA = sp + 32, x29 and x30 saved at its bottom
ARM_BY_FP = (0x200, 0x100, b"zR", b"\x0c\x1d\x20\x9d\x04\x9e\x03")  # CFA = x29 + 32
ARM_SIGNED = (0x300, 0x100, b"zRB", b"\x2d\x0e\x20\x9d\x04\x9e\x03")  # the return address carries a code
ARM_START = (0x500, 0x0F0, b"zR", b"\x07\x1e")
ARM_ALL = [ARM_LEAF, ARM_FRAME, ARM_BY_FP, ARM_SIGNED, ARM_START]


@pytest.mark.parametrize("pointers", [False, True])
def test_arm64(pointers: bool) -> None:
    signed = at(0x510) | 0x002A_0000_0000_0000
    stack = words(
        STACK + 64, at(0x210), 0, 0,  # ARM_FRAME: x29, x30
        9, 9, 9, 9,
        STACK + 96, at(0x310), 0, 0,  # ARM_BY_FP with x29 = STACK + 64
        0, signed, 0, 0,  # ARM_SIGNED
    )  # fmt: skip
    registers = {"pc": at(0x10), "sp": STACK, "lr": at(0x110), "x29": 1}
    walk = unwinder(ARM_ALL, "aarch64").walk(PID, registers, stack, pointers=pointers)
    assert walk.addresses == [at(0x10), at(0x110), at(0x210), at(0x310), at(0x510)]
    assert walk.end == COMPLETE


@pytest.mark.parametrize("pointers", [False, True])
def test_arm64_signed_link_register_in_a_leaf(pointers: bool) -> None:
    leaf = (0x600, 0x100, b"zR", b"\x2d")  # paciasp has run, nothing is saved yet
    registers = {"pc": at(0x610), "sp": STACK, "lr": at(0x510) | 0x7F << 48, "x29": 0}
    walk = unwinder([*ARM_ALL, leaf], "aarch64").walk(PID, registers, b"", pointers=pointers)
    assert walk.addresses == [at(0x610), at(0x510)]


def test_arm64_a_second_leaf_is_the_end() -> None:
    """A caller that claims to have its return address in the register would be its own caller."""
    registers = {"pc": at(0x10), "sp": STACK, "lr": at(0x20), "x29": 0}
    for pointers in (False, True):
        walk = unwinder(ARM_ALL, "aarch64").walk(PID, registers, words(0, 0), pointers=pointers)
        assert walk.addresses == [at(0x10), at(0x20)] and walk.end == LOST


@pytest.mark.parametrize("pointers", [False, True])
@pytest.mark.parametrize("place", [0, 4])
def test_arm64_signal_frames_are_known_by_their_code(pointers: bool, place: int) -> None:
    """What the handler returns to has no frame information; the context lies at the stack pointer."""
    raw = bytearray(ElfBuilder(machine=183).section(".eh_frame", frames(ARM_ALL, ARM), address=0x8000).build())
    raw[0x17F0:0x17F8] = bytes.fromhex("681180d2010000d4")  # mov x8, #139; svc #0
    elf = Elf(bytes(raw))
    found = unwinder(ARM_ALL, "aarch64")
    found._code._open_file = lambda _pid, _mapping: elf
    context = [STACK + 1000 + number for number in range(31)] + [STACK + 312 + 33 * 8, at(0x310)]  # x0 to x30, sp, pc
    context[30] = at(0x10)
    head = [0] * 39  # siginfo, the head of ucontext, the fault's address
    stack = words(*head, *context, 0, at(0x510), 0, 0)
    if place:  # in the trampoline itself
        registers = {"pc": at(0x7F0 + place), "sp": STACK, "lr": 0, "x29": 0}
        assert found.walk(PID, registers, stack, pointers=pointers).addresses[:2] == [at(0x7F0 + place), at(0x310)]
        return
    registers = {"pc": at(0x10), "sp": STACK, "lr": at(0x7F0), "x29": 0}
    walk = found.walk(PID, registers, stack, pointers=pointers)
    assert walk.addresses == [at(0x10), at(0x7F0), at(0x310), at(0x510)] and walk.exact == (0, 2)


# -- i386 on x86-64

LOW_BASE, LOW_STACK = 0x5656_6000, 0xFFFF_0000
I386 = bytes((1, 0x7C, 8, 1, 0x1B)) + b"\x0c\x04\x04\x88\x01"  # CFA = esp + 4, return address at CFA - 4
I386_ALL = [
    (0x000, 0x100, b"zR", b""),
    (0x100, 0x100, b"zR", b"\x0e\x10\x85\x02"),  # CFA = esp + 16, ebp saved
    (0x200, 0x100, b"zR", b"\x85\x02\x0c\x05\x08"),  # CFA = ebp + 8
    (0x300, 0x0F0, b"zR", b"\x0f\x03\x75\x7c\x06\x10\x05\x02\x75\x00"),  # realigned: CFA = *(ebp - 4), ebp at *ebp
    (0x400, 0x100, b"zRS", b"\x0f\x03\x74\x08\x06" + b"\x10\x08\x02\x74\x00" + b"\x10\x05\x02\x74\x04"),  # a signal's
    (0x500, 0x0F0, b"zR", b"\x07\x08"),
]


def low(offset: int) -> int:
    return LOW_BASE + offset


def narrow_words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def i386_unwinder() -> Unwinder:
    data = b""
    for start, size, augmentation, program in I386_ALL:
        cie = entry(struct.pack("<IB", 0, 1) + augmentation + b"\0" + I386)
        place = 0x8000 + len(data) + len(cie) + 8
        data += cie + entry(struct.pack("<IiI", len(cie) + 4, BASE + start - place, size) + b"\0" + program)
    elf = Elf(ElfBuilder(bits=32, machine=3).section(".eh_frame", data, address=0x8000).build())
    processes = Processes(None)
    processes.add(PID, Mapping(LOW_BASE, LOW_BASE + 0x1000, 0x1000, "/bin/narrow"))
    return Unwinder("x86_64", processes, lambda _pid, _mapping: elf)


@pytest.mark.parametrize("pointers", [False, True])
@pytest.mark.parametrize("mark", [{"cs": 0x23}, {"bits": 32}])
def test_32_bit_processes_have_words_of_4_bytes(pointers: bool, mark: dict[str, int]) -> None:
    stack = narrow_words(
        low(0x110),
        1, 2, LOW_STACK + 20, low(0x210),
        LOW_STACK + 44, low(0x310),  # ebp + 0 and + 4 of the second frame
        5, 6, 7, LOW_STACK + 60, 0,
        8, 9, low(0x400), low(0x200), LOW_STACK + 84, LOW_STACK + 76,
        0, 0, low(0x510), LOW_STACK, low(0x510),
    )  # fmt: skip
    high = 0xDEAD << 32  # upper halves mean nothing
    registers = {"ip": low(0x10) | high, "sp": LOW_STACK | high, "bp": 0, **mark}
    walk = i386_unwinder().walk(PID, registers, stack, pointers=pointers)
    assert walk.addresses == [low(0x10), low(0x110), low(0x210), low(0x310), low(0x400), low(0x200), low(0x510)]
    assert walk.end == COMPLETE and walk.exact == (0, 5)


def test_the_registers_tell_whether_a_process_has_32_bits() -> None:
    found = i386_unwinder()
    registers = {"ip": low(0x10), "sp": LOW_STACK, "bp": 0}
    stack = narrow_words(low(0x510), low(0x510))
    assert found.unwind(PID, {**registers, "cs": 0x23}, stack) == [low(0x10), low(0x510)]
    assert found.unwind(PID, {**registers, "cs": 0x33}, stack) == [low(0x10)]  # 64-bit code without frame information
    assert found.unwind(PID, registers, stack) == [low(0x10)]


def test_garbage_ends() -> None:
    source = random.Random(9)
    found = unwinder(EVERY)
    code = [at(offset) for offset in range(0x700)]
    for _ in range(500):
        stack = words(
            *[source.choice((source.choice(code), source.getrandbits(64), STACK + source.randrange(0, 800, 8))) for _ in range(64)]
        )
        registers = {name: STACK + source.randrange(-800, 800) for name in ("bp", "bx", "sp")}
        registers["ip"] = source.choice(code)
        assert len(found.unwind(PID, registers, stack, 100)) <= 100
