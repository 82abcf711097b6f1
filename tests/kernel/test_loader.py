"""Whole Specs on a real kernel."""

from __future__ import annotations

import os
from struct import unpack

import pytest

from harken.abi import bpf as abi
from harken.base.diagnostics import Source
from harken.base.errors import KernelError, ProbeError, VerifierError
from harken.formats.btf_writer import BtfWriter
from harken.formats.insn import R0, R1, R2, R3, R4, R6, R10, alu64, call, encode, exit_, jmp, ld_imm64, ldx, mov64, st, stx
from harken.formats.spec import MapSpec, ProgramSpec, Reloc, Spec
from harken.kernel.bpf import try_load_program
from harken.kernel.kernel import live
from harken.kernel.link import iter_create, iter_link, tracing_link
from harken.kernel.loader import load
from harken.kernel.procfs import symbol_addresses

pytestmark = pytest.mark.kernel

KERNEL = live()
BTF = pytest.mark.skipif(not os.path.exists("/sys/kernel/btf/vmlinux"), reason="the kernel has no BTF")
COUNTS = MapSpec("counts", abi.BPF_MAP_TYPE_HASH, 4, 8, 16)
DATA = MapSpec(
    "data", abi.BPF_MAP_TYPE_ARRAY, 4, 16, 1, contents=((bytes(4), (7).to_bytes(8, "little") + (8).to_bytes(8, "little")),), frozen=True
)


def test_maps_contents_and_both_kinds_of_map_reference() -> None:
    # counts[7] = data[0][8..16]
    insns = [
        ld_imm64(R6, 0),
        ldx(8, R1, R6, 0),
        stx(8, R10, R1, -8),
        st(4, R10, 7, -12),
        ld_imm64(R1, 0),
        mov64(R2, R10),
        alu64("add", R2, imm=-12),
        mov64(R3, R10),
        alu64("add", R3, imm=-8),
        mov64(R4, imm=0),
        call("map_update_elem"),
        exit_(),
    ]
    relocs = (Reloc(0, "map_value", "data", 8), Reloc(5, "map", "counts"))
    program = ProgramSpec("run", abi.BPF_PROG_TYPE_SYSCALL, encode(insns), relocs, flags=abi.BPF_F_SLEEPABLE)
    with load(KERNEL, Spec((COUNTS, DATA), (program,))) as loaded:
        assert loaded.programs["run"].run() == 0
        assert loaded.maps["counts"].items() == [((7).to_bytes(4, "little"), (8).to_bytes(8, "little"))]
    with pytest.raises(KernelError):
        loaded.maps["counts"].lookup(bytes(4))


def described(insns: list[tuple[int, int, int, int, int]], marks: list[tuple[int, str]], text: str) -> tuple[ProgramSpec, bytes]:
    """A program with type and line information: ``marks`` are (instruction, the piece of ``text`` that it comes from)."""
    source = Source("demo.bt", text)
    writer = BtfWriter()
    function = writer.function("probe")
    func_info = writer.func_info([(0, function)])
    line_info = writer.line_info([(slot, source.span(text.index(piece), text.index(piece) + len(piece))) for slot, piece in marks])
    program = ProgramSpec("probe", abi.BPF_PROG_TYPE_TRACEPOINT, encode(insns), func_info=func_info, line_info=line_info)
    return program, writer.data()


def test_a_refused_program_points_at_the_users_line() -> None:
    text = "tracepoint:a:b\n{\n  $x = 1;\n  print($x->y);\n}\n"
    program, btf = described([mov64(R1, imm=1), ldx(8, R2, R1, 0), mov64(R0, imm=0), exit_()], [(0, "$x = 1"), (1, "print($x->y)")], text)
    with pytest.raises(VerifierError) as caught:
        load(KERNEL, Spec((), (program,), btf))
    error = caught.value
    assert error.message == "the kernel's verifier refused 'probe': a plain number is used as a pointer" and error.hint
    assert "print($x->y)" in error.log and "invalid mem access" in error.log
    assert error.diagnostic and error.diagnostic.span
    assert error.diagnostic.position.startswith("demo.bt:4:") and "print($x->y)" in error.diagnostic.span.text


def test_a_program_with_type_information_loads() -> None:
    program, btf = described([mov64(R0, imm=0), exit_()], [(0, "exit")], "exit")
    with load(KERNEL, Spec((), (program,), btf)) as loaded:
        info = loaded.programs["probe"].info()
        assert info.btf_id > 0 and info.name == "probe" and loaded.notes == []


@BTF
def test_btf_tracepoints() -> None:
    insns = encode([mov64(R0, imm=0), exit_()])
    program = ProgramSpec(
        "switch", abi.BPF_PROG_TYPE_TRACING, insns, expected_attach_type=abi.BPF_TRACE_RAW_TP, attach_function="sched_switch"
    )
    with load(KERNEL, Spec((), (program,))) as loaded:  # noqa: SIM117
        with tracing_link(KERNEL, loaded.programs["switch"], abi.BPF_TRACE_RAW_TP) as link:
            assert link.info().prog_id == loaded.programs["switch"].id
    with pytest.raises(ProbeError, match="no_such_event"):
        load(KERNEL, Spec((), (program.replace(attach_function="no_such_event"),)))


@BTF
def test_iterators() -> None:
    # prints one byte per task: ctx->meta->seq, with a null check of the task
    text = MapSpec("text", abi.BPF_MAP_TYPE_ARRAY, 4, 8, 1, contents=((bytes(4), b"*" + bytes(7)),), frozen=True)
    insns = [
        ldx(8, R2, R1, 8),
        jmp("eq", R2, imm=0, off=6),
        ldx(8, R1, R1, 0),
        ldx(8, R1, R1, 0),
        ld_imm64(R2, 0),
        mov64(R3, imm=1),
        call("seq_write"),
        mov64(R0, imm=0),
        exit_(),
    ]
    program = ProgramSpec(
        "tasks", abi.BPF_PROG_TYPE_TRACING, encode(insns), (Reloc(4, "map_value", "text"),),
        expected_attach_type=abi.BPF_TRACE_ITER, attach_function="task",
    )  # fmt: skip
    with load(KERNEL, Spec((text,), (program,))) as loaded, iter_link(KERNEL, loaded.programs["tasks"]) as link:
        fd = iter_create(KERNEL, link)
        try:
            assert len(os.read(fd, 1 << 16)) > 5
        finally:
            os.close(fd)


@BTF
def test_kernel_variables_by_btf_and_by_address() -> None:
    # bpf_prog_active is per CPU and in BTF; _text is not in BTF, so it is given by its address
    text = [ld_imm64(R0, 0), exit_()]
    program = ProgramSpec("text", abi.BPF_PROG_TYPE_RAW_TRACEPOINT, encode(text), (Reloc(0, "ksym", "_text"),))
    with load(KERNEL, Spec((), (program,))) as loaded:
        assert loaded.programs["text"].run() == symbol_addresses(KERNEL, ("_text",))["_text"][0] & 0xFFFFFFFF
    active = [ld_imm64(R1, 0), call("this_cpu_ptr"), ldx(4, R0, R0, 0), exit_()]
    program = ProgramSpec("active", abi.BPF_PROG_TYPE_RAW_TRACEPOINT, encode(active), (Reloc(0, "ksym", "bpf_prog_active"),))
    if not symbol_addresses(KERNEL, ("bpf_prog_active",)):
        # then the verifier, which looks the name up as well, refuses in words that we know
        with pytest.raises(VerifierError, match="the kernel variable bpf_prog_active has no address"):
            load(KERNEL, Spec((), (program,)))
        return
    with load(KERNEL, Spec((), (program,))) as loaded:
        assert unpack("=i", loaded.programs["active"].run().to_bytes(4, "little"))[0] >= 0


@BTF
def test_kernel_functions() -> None:
    # kfunc calls: bpf_get_kmem... differ by kernel; the rcu pair is offered to all program types since 6.2
    kfunc = (0x85, 0, 0, 0, -1)
    insns = encode([kfunc, kfunc, mov64(R0, imm=0), exit_()])
    relocs = (Reloc(0, "kfunc", "bpf_rcu_read_lock"), Reloc(1, "kfunc", "bpf_rcu_read_unlock"))
    program = ProgramSpec(
        "rcu", abi.BPF_PROG_TYPE_TRACING, insns, relocs, expected_attach_type=abi.BPF_TRACE_RAW_TP, attach_function="sched_switch"
    )
    try:
        load(KERNEL, Spec((), (program,))).close()
    except VerifierError:
        raise
    except KernelError as error:
        if "does not offer" not in error.message:
            raise
        pytest.skip(f"this kernel: {error.message}")


def test_a_program_of_a_hundred_thousand_instructions() -> None:
    count = 100_000
    insns = encode([mov64(R0, imm=0)]) + encode([alu64("add", R0, imm=1)]) * count + encode([exit_()])
    fd = try_load_program(KERNEL, abi.BPF_PROG_TYPE_SOCKET_FILTER, insns)
    if fd < 0:
        pytest.skip(f"the kernel takes fewer instructions (errno {-fd})")
    os.close(fd)
