"""BPF object files: what is written is read again, and nothing wrong is read."""

from __future__ import annotations

import random

import pytest

from harken.abi import bpf as abi
from harken.base.ctype import Array, Enum, Int, Member, Ptr, Struct, Typedef
from harken.base.errors import FormatError, HarkenError
from harken.formats.bpf_object import functions_of, read, write
from harken.formats.bpf_sections import name, parse
from harken.formats.btf import Btf
from harken.formats.btf_types import TypeWriter
from harken.formats.elf import Elf
from harken.formats.insn import (
    LD_IMM64,
    PSEUDO_FUNC,
    PSEUDO_MAP_FD,
    PSEUDO_MAP_VALUE,
    R0,
    R1,
    R2,
    R3,
    R4,
    call,
    call_local,
    encode,
    exit_,
    mov64,
)
from harken.formats.spec import AttachSpec, MapSpec, ProgramSpec, Reloc, Spec

U32, U64 = Int("unsigned int", 4, False), Int("unsigned long long", 8, False)


def wide(register, source, addend=0):
    return (LD_IMM64, register, source, 0, addend << 32)


def spec() -> Spec:
    """Two programs, one with a subprogram and a callback; maps of every form; types and lines."""
    writer = TypeWriter()
    key = writer.ctype(Struct("key", 8, (Member("pid", U32, 0), Member("kind", Enum("kind", 4, {"A": 0, "B": 1}), 32))))
    value = writer.ctype(U64)
    entry, other, callback, plain = (writer.function(text) for text in ("entry", "helper", "callback", "plain"))
    insns = [
        wide(R1, PSEUDO_MAP_FD),
        wide(R2, PSEUDO_FUNC, 0),
        mov64(R3, imm=0),
        mov64(R4, imm=0),
        call(164),
        wide(R1, PSEUDO_MAP_VALUE, 4),
        call_local(0),
        exit_(),
        # 11: helper
        mov64(R0, imm=1),
        exit_(),
        # 13: callback
        mov64(R0, imm=0),
        exit_(),
    ]
    insns[1] = (LD_IMM64, R2, PSEUDO_FUNC, 0, 13 - 2 - 1)
    insns[6] = call_local(11 - 9 - 1)
    code = encode(insns)
    return Spec(
        maps=(
            MapSpec("counts", abi.BPF_MAP_TYPE_HASH, 8, 8, 1000, abi.BPF_F_NO_PREALLOC, key_type=key, value_type=value),
            MapSpec("events", abi.BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 0),
            MapSpec("ring", abi.BPF_MAP_TYPE_RINGBUF, 0, 0, 4096),
            MapSpec("nest", abi.BPF_MAP_TYPE_HASH_OF_MAPS, 4, 4, 8, inner=MapSpec("nest.inner", abi.BPF_MAP_TYPE_ARRAY, 4, 8, 2)),
            MapSpec("constants", abi.BPF_MAP_TYPE_ARRAY, 4, 12, 1, abi.BPF_F_RDONLY_PROG, ((bytes(4), b"hello world\0"),), True),
            MapSpec("globals", abi.BPF_MAP_TYPE_ARRAY, 4, 8, 1, 0, ((bytes(4), b"\1" + bytes(7)),)),
        ),
        programs=(
            ProgramSpec(
                "entry",
                abi.BPF_PROG_TYPE_TRACEPOINT,
                code,
                (Reloc(0, "map", "counts"), Reloc(7, "map_value", "constants", 4)),
                (AttachSpec("tracepoint:sched:sched_switch", ""),),
                func_info=writer.func_info([(0, entry), (11, other), (13, callback)]),
                line_info=b"".join([int.to_bytes(n, 4, "little") + bytes(8) + (7 << 10).to_bytes(4, "little") for n in (0, 9, 11, 13)]),
            ),
            ProgramSpec(
                "plain",
                abi.BPF_PROG_TYPE_TRACING,
                encode([wide(R1, PSEUDO_MAP_VALUE), mov64(R0, imm=0), exit_()]),
                (Reloc(0, "map_value", "globals"),),
                (AttachSpec("fentry:vfs_read", ""),),
                abi.BPF_TRACE_FENTRY,
                "vfs_read",
                func_info=writer.func_info([(0, plain)]),
            ),
        ),
        btf=writer.data(),
    )


def test_what_is_written_is_read_again():
    before = spec()
    after = read(write(before))
    assert sorted(after.maps, key=lambda m: m.name) == sorted(before.maps, key=lambda m: m.name)
    assert after.programs == before.programs
    assert write(after)


def test_sections_and_symbols():
    elf = Elf(write(spec()))
    names = [section.name for section in elf.sections]
    assert {"tracepoint/sched/sched_switch", "fentry/vfs_read", ".text", ".maps", "license", ".BTF", ".BTF.ext"} <= set(names)
    assert {".rodata.constants", ".data.globals", ".reltracepoint/sched/sched_switch"} <= set(names)
    symbols = {symbol.name: symbol for symbol in elf.symbols()}
    assert symbols["entry"].binding == "global" and symbols["entry.11"].binding == "local"
    assert names[symbols["counts"].section] == ".maps"
    btf = Btf(bytes(elf.section(".BTF").data))
    assert [m.name for m in btf.datasec(".maps").members] == ["counts", "events", "ring", "nest"]


def test_functions_without_their_names():
    program = spec().programs[0]
    assert functions_of(program.replace(func_info=b"")) == [0, 11, 13]
    after = read(write(Spec(spec().maps, (program.replace(func_info=b"", line_info=b""),), spec().btf)))
    assert after.programs[0].insns == program.insns


def test_what_an_object_cannot_say():
    program = ProgramSpec("p", abi.BPF_PROG_TYPE_TRACEPOINT, encode([mov64(R0, imm=0), exit_()]))
    with pytest.raises(FormatError, match="contents"):
        write(Spec((MapSpec("m", abi.BPF_MAP_TYPE_HASH, 4, 4, 8, contents=((bytes(4), bytes(4)),)),), (program,)))
    with pytest.raises(FormatError, match="one licence"):
        write(Spec((), (program, program.replace(name="q", license="MIT"))))
    with pytest.raises(FormatError, match="no section"):
        write(Spec((), (program.replace(type=999),)))


@pytest.mark.parametrize(
    "text",
    "kprobe/vfs_read kretprobe kprobe.multi/vfs_* tracepoint/sched/sched_switch raw_tracepoint/sched_switch tp_btf/sched_switch "
    "fentry/f fexit/f fmod_ret/f fentry.s/f lsm.s/file_open iter/task perf_event syscall xdp tc "
    "uprobe//bin/sh:main usdt//bin/x:a:b socket".split(),
)
def test_names_of_sections(text):
    kind = parse(text)
    assert kind is not None
    assert name(kind.type, kind.expected_attach_type, kind.probe, kind.attach_function, kind.sleepable) == text


def test_other_sections_are_no_programs():
    assert parse(".text") is None and parse("kprobes") is None and parse("maps") is None
    assert parse("tp/a/b") == parse("tracepoint/a/b")


def test_types_of_c():
    point = Struct("point", 16, (Member("x", U32, 0), Member("bits", U32, 32, 3), Member("next", Ptr(Struct("point", 16, ())), 64)))
    writer = TypeWriter()
    number = writer.ctype(Typedef("p_t", Array(point, 3)))
    btf = Btf(writer.data())
    assert btf.type(number).strip().count == 3
    found = btf.struct("point")
    assert [(m.name, m.bit_offset, m.bit_size) for m in found.members] == [("x", 0, 0), ("bits", 32, 3), ("next", 64, 0)]
    continued = TypeWriter(writer.data())
    extra = continued.ctype(Enum("color", 4, {"RED": 1, "BLUE": 200}))
    again = Btf(continued.data())
    assert again.type(extra).values == {"RED": 1, "BLUE": 200} and again.struct("point").size == 16


def test_damaged_files_are_told():
    data = write(spec())
    rng = random.Random(5)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        if rng.random() < 0.2:
            del damaged[rng.randrange(len(damaged)) :]
        try:
            read(bytes(damaged))
        except HarkenError:
            pass
