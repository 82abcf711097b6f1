"""Bad programs, assembled by hand: each is refused by the real verifier, and its log is understood."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from harken.abi import bpf as abi
from harken.base.errors import VerifierError
from harken.formats.insn import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R10,
    alu32,
    alu64,
    call,
    call_local,
    encode,
    exit_,
    ja,
    jmp,
    ld_imm64,
    ldx,
    mov64,
    st,
    stx,
)  # fmt: skip
from harken.formats.spec import MapSpec
from harken.kernel.bpf import Map, create_map, load_program
from harken.kernel.kernel import live
from harken.kernel.verifier import explain

Insn = tuple[int, int, int, int, int]
pytestmark = pytest.mark.kernel

KERNEL = live()
TRACEPOINT, RAW, FILTER, CGROUP = (
    abi.BPF_PROG_TYPE_TRACEPOINT, abi.BPF_PROG_TYPE_RAW_TRACEPOINT, abi.BPF_PROG_TYPE_SOCKET_FILTER, abi.BPF_PROG_TYPE_CGROUP_SKB,
)  # fmt: skip
END = [mov64(R0, imm=0), exit_()]


class Maps:
    """The maps that the bad programs use."""

    def __init__(self) -> None:
        self.hash = create_map(KERNEL, MapSpec("hash", abi.BPF_MAP_TYPE_HASH, 4, 8, 4))
        self.array = create_map(KERNEL, MapSpec("array", abi.BPF_MAP_TYPE_ARRAY, 4, 16, 4))
        self.ring = create_map(KERNEL, MapSpec("ring", abi.BPF_MAP_TYPE_RINGBUF, 0, 0, 4096))
        self.constant = create_map(KERNEL, MapSpec("constant", abi.BPF_MAP_TYPE_ARRAY, 4, 16, 1, abi.BPF_F_RDONLY_PROG))

    def close(self) -> None:
        for map in (self.hash, self.array, self.ring, self.constant):
            map.close()


@pytest.fixture
def maps() -> Iterator[Maps]:
    made = Maps()
    yield made
    made.close()


def lookup(map: Map) -> list[Insn]:
    return [ld_imm64(R1, map.fd, 1), mov64(R2, R10), alu64("add", R2, imm=-4), st(4, R10, 0, -4), call("map_lookup_elem")]


def reserve(map: Map) -> list[Insn]:
    return [ld_imm64(R1, map.fd, 1), mov64(R2, imm=8), mov64(R3, imm=0), call("ringbuf_reserve"), jmp("ne", R0, imm=0, off=2), *END]


def submit() -> list[Insn]:
    return [mov64(R2, imm=0), call("ringbuf_submit")]


#: what is wrong -> (program type, instructions, keys that a kernel may give)
BAD: dict[str, tuple[int, Callable[[Maps], list[Insn]], set[str]]] = {
    "no null check": (TRACEPOINT, lambda m: [*lookup(m.hash), ldx(8, R1, R0, 0), *END], {"null_deref"}),
    "arithmetic before the null check": (TRACEPOINT, lambda m: [*lookup(m.hash), alu64("add", R0, imm=4), *END], {"null_arithmetic"}),
    "number as pointer": (TRACEPOINT, lambda m: [ldx(8, R1, R1, 8), ldx(8, R2, R1, 0), *END], {"scalar_deref"}),
    "stack out of bounds": (TRACEPOINT, lambda m: [st(8, R10, 0, -520), *END], {"stack_bounds"}),
    "stack above the frame": (TRACEPOINT, lambda m: [st(8, R10, 0, 0), *END], {"stack_bounds"}),
    "stack misaligned": (TRACEPOINT, lambda m: [st(8, R10, 0, -12), *END], {"stack_alignment"}),
    "value out of bounds": (
        TRACEPOINT,
        lambda m: [*lookup(m.hash), jmp("eq", R0, imm=0, off=1), ldx(8, R1, R0, 8), *END],
        {"value_bounds"},
    ),
    "index without bounds": (
        TRACEPOINT,
        lambda m: [ldx(8, R6, R1, 8), *lookup(m.array), jmp("eq", R0, imm=0, off=2), alu64("add", R0, R6), ldx(1, R1, R0, 0), *END],
        {"unbounded_math"},
    ),
    "index with too high a bound": (
        TRACEPOINT,
        lambda m: [ldx(1, R6, R1, 8), *lookup(m.array), jmp("eq", R0, imm=0, off=2), alu64("add", R0, R6), ldx(1, R1, R0, 0), *END],
        {"value_bounds", "unbounded_index"},
    ),
    "length without bounds": (
        TRACEPOINT,
        lambda m: [ldx(4, R2, R1, 8), mov64(R3, R2), mov64(R1, R10), alu64("add", R1, imm=-8), call("probe_read_kernel"), *END],
        {"unbounded_index"},
    ),
    "length that may be negative": (
        TRACEPOINT,
        lambda m: [ldx(8, R2, R1, 8), mov64(R3, R2), mov64(R1, R10), alu64("add", R1, imm=-8), call("probe_read_kernel"), *END],
        {"negative_index"},
    ),
    "length zero": (
        TRACEPOINT,
        lambda m: [mov64(R1, R10), alu64("add", R1, imm=-8), mov64(R2, imm=0), call("get_current_comm"), *END],
        {"zero_size"},
    ),
    "pointer plus pointer": (TRACEPOINT, lambda m: [mov64(R2, R10), alu64("add", R2, R1), *END], {"pointer_math"}),
    "pointer in 32 bits": (TRACEPOINT, lambda m: [mov64(R2, R10), alu32("add", R2, imm=8), ldx(1, R3, R2, 0), *END], {"pointer_math"}),
    "register never set": (TRACEPOINT, lambda m: [mov64(R0, R5), exit_()], {"uninitialised"}),
    "register destroyed by a call": (TRACEPOINT, lambda m: [call("ktime_get_ns"), ldx(8, R2, R1, 0), *END], {"uninitialised"}),
    "frame pointer": (TRACEPOINT, lambda m: [mov64(R10, imm=0), *END], {"frame_pointer"}),
    "context out of bounds": (TRACEPOINT, lambda m: [ldx(8, R2, R1, 20000), *END], {"context_access"}),
    "context, wrong size": (RAW, lambda m: [ldx(4, R2, R1, 3), *END], {"context_access"}),
    "context by a moved pointer": (FILTER, lambda m: [alu64("add", R1, imm=4), ldx(4, R2, R1, 0), *END], {"context_pointer"}),
    "helper of another type": (FILTER, lambda m: [call("get_stackid"), *END], {"helper_type"}),
    "helper that does not exist": (TRACEPOINT, lambda m: [call(9999), *END], {"helper_unknown"}),
    "map of another type": (
        TRACEPOINT,
        lambda m: [
            ld_imm64(R2, m.hash.fd, 1), mov64(R3, imm=0), mov64(R4, R10), alu64("add", R4, imm=-8), st(8, R10, 0, -8), mov64(R5, imm=8),
            call("perf_event_output"), *END,
        ],
        {"map_helper"},
    ),
    "number as map": (TRACEPOINT, lambda m: [mov64(R1, imm=0), mov64(R2, imm=0), call("map_lookup_elem"), *END], {"argument_type"}),
    "record not submitted": (TRACEPOINT, lambda m: [*reserve(m.ring), *END], {"unreleased"}),
    "record submitted twice": (
        TRACEPOINT,
        lambda m: [*reserve(m.ring), mov64(R6, R0), mov64(R1, R6), *submit(), mov64(R1, R6), *submit(), *END],
        {"record_used_again"},
    ),
    "record out of bounds": (
        TRACEPOINT,
        lambda m: [*reserve(m.ring), st(8, R0, 0, 8), mov64(R1, R0), *submit(), *END],
        {"key_bounds"},
    ),
    "record of variable size": (
        TRACEPOINT,
        lambda m: [ldx(8, R2, R1, 8), ld_imm64(R1, m.ring.fd, 1), mov64(R3, imm=0), call("ringbuf_reserve"), *END],
        {"argument_constant"},
    ),
    "endless loop": (
        TRACEPOINT,
        lambda m: [mov64(R6, imm=0), call("ktime_get_ns"), jmp("eq", R6, imm=0, off=-2), *END],
        {"infinite_loop", "back_edge"},
    ),
    "loop with too many rounds": (
        TRACEPOINT,
        lambda m: [mov64(R6, imm=0), alu64("add", R6, imm=1), jmp("lt", R6, imm=10_000_000, off=-2), *END],
        {"too_complex"},
    ),
    "unreachable": (TRACEPOINT, lambda m: [*END, *END], {"unreachable"}),
    "jump outside": (TRACEPOINT, lambda m: [mov64(R0, imm=0), ja(100), exit_()], {"unreachable"}),
    "no exit": (TRACEPOINT, lambda m: [mov64(R0, imm=0)], {"unreachable"}),
    "unknown opcode": (TRACEPOINT, lambda m: [(0xFF, 0, 0, 0, 0), exit_()], {"unreachable"}),
    "read-only map": (TRACEPOINT, lambda m: [*lookup(m.constant), jmp("eq", R0, imm=0, off=1), st(8, R0, 0, 0), *END], {"btf_write"}),
    "return value": (CGROUP, lambda m: [mov64(R0, imm=77), exit_()], {"exit_value"}),
    "division": (TRACEPOINT, lambda m: [mov64(R0, imm=1), alu64("div", R0, imm=0), exit_()], {"division"}),
    "shift": (TRACEPOINT, lambda m: [mov64(R0, imm=1), alu64("lsh", R0, imm=64), exit_()], {"shift"}),
    "calls too deep": (TRACEPOINT, lambda m: [*[call_local(1), exit_()] * 9, *END], {"call_depth"}),
    "pointer overwritten in part": (
        TRACEPOINT,
        lambda m: [stx(8, R10, R1, -8), st(4, R10, 0, -8), ldx(8, R1, R10, -8), ldx(8, R2, R1, 8), *END],
        {"scalar_deref", "stack_spill", "pointer_kind"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_programs(name: str, maps: Maps) -> None:
    type, build, keys = BAD[name]
    if keys == {"too_complex"} and "HARKEN_GUEST" in os.environ:
        pytest.skip("verifying a million instructions takes too long in an emulated guest")
    with pytest.raises(VerifierError) as caught:
        load_program(KERNEL, type, encode(build(maps)), name="bad").close()
    error = caught.value
    found = explain(error.log)
    assert found.key in keys, error.log
    assert error.message == f"the kernel's verifier refused 'bad': {found.message}" and error.hint and error.errno
    assert found.said in error.log


def test_what_was_known_of_the_register(maps: Maps) -> None:
    with pytest.raises(VerifierError) as caught:
        load_program(KERNEL, TRACEPOINT, encode(BAD["length without bounds"][1](maps)), name="bad")
    assert caught.value.message.endswith("an index or length has no upper bound: a number from 0 to 4294967295")


def test_a_stack_that_was_never_written(maps: Maps) -> None:
    """Refused before Linux 6.3, which lets privileged programs read what they did not write."""
    for insns in (
        [ldx(8, R2, R10, -8), *END],
        [ld_imm64(R1, maps.hash.fd, 1), mov64(R2, R10), alu64("add", R2, imm=-4), call("map_lookup_elem"), *END],
    ):
        try:
            load_program(KERNEL, TRACEPOINT, encode(insns), name="bad").close()
        except VerifierError as error:
            assert explain(error.log).key == "stack_uninitialised", error.log


def test_licences(maps: Maps) -> None:
    insns = [mov64(R1, R10), alu64("add", R1, imm=-8), mov64(R2, imm=8), mov64(R3, imm=0), call("probe_read_kernel"), *END]
    load_program(KERNEL, TRACEPOINT, encode(insns), name="good").close()
    with pytest.raises(VerifierError, match="GPL-compatible licence"):
        load_program(KERNEL, TRACEPOINT, encode(insns), name="bad", license="MIT")
