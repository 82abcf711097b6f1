"""The loader against a scripted kernel: relocations, order, retries, and that a failure leaves nothing open."""

from __future__ import annotations

import errno
from struct import pack, pack_into, unpack_from

import pytest

from harken.abi import bpf as abi
from harken.base.errors import KernelError, ProbeError, VerifierError
from harken.formats.btf import Btf
from harken.formats.insn import R1, R2, encode, exit_, ld_imm64, mov64
from harken.formats.spec import MapSpec, ProgramSpec, Reloc, Spec
from harken.kernel.bpf import load_program
from harken.kernel.kernel import Call
from harken.kernel.loader import load
from harken.testing.btf_builder import BtfBuilder
from harken.testing.fake_kernel import FakeKernel, bpf_field

MAPS = (MapSpec("counts", abi.BPF_MAP_TYPE_HASH, 4, 8, 10), MapSpec("data", abi.BPF_MAP_TYPE_ARRAY, 4, 16, 1))
RETURN = encode([mov64(0, imm=0), exit_()])


@pytest.fixture
def kernel() -> FakeKernel:
    kernel = FakeKernel()
    for command in ("BPF_MAP_CREATE", "BPF_PROG_LOAD", "BPF_BTF_LOAD"):
        kernel.on_bpf(command, lambda call: kernel.new_fd())
    kernel.on_bpf("BPF_MAP_UPDATE_ELEM", 0)
    kernel.on_bpf("BPF_MAP_FREEZE", 0)
    return kernel


def program(name: str = "p", insns: bytes = RETURN, **more: object) -> ProgramSpec:
    return ProgramSpec(name, abi.BPF_PROG_TYPE_TRACEPOINT, insns, **more)  # type: ignore[arg-type]


def loaded_insns(kernel: FakeKernel, index: int = -1) -> bytes:
    data = bpf_field(abi.PROG_LOAD, "insns", kernel.bpf_calls("BPF_PROG_LOAD")[index])
    assert isinstance(data, bytes)
    return data


def types() -> Btf:
    builder = BtfBuilder()
    integer = builder.integer("int", 4)
    prototype = builder.proto(integer, [("a", integer)])
    builder.func("vfs_read", prototype)
    builder.func("bpf_iter_task", prototype)
    builder.typedef("btf_trace_sched_switch", builder.ptr(prototype))
    builder.var("runqueues", integer)
    return Btf(builder.build())


def test_maps_and_programs_by_name(kernel: FakeKernel) -> None:
    spec = Spec(MAPS, (program("begin"), program("kprobe:vfs_read")))
    with load(kernel, spec) as loaded:
        assert list(loaded.maps) == ["counts", "data"] and list(loaded.programs) == ["begin", "kprobe:vfs_read"]
        assert len(kernel.open_fds) == 4
    assert kernel.open_fds == set()


def test_map_relocations(kernel: FakeKernel) -> None:
    insns = encode([ld_imm64(R1, 0), ld_imm64(R2, 0), mov64(0, imm=0), exit_()])
    relocs = (Reloc(0, "map", "counts"), Reloc(2, "map_value", "data", 12))
    with load(kernel, Spec(MAPS, (program(insns=insns, relocs=relocs),))) as loaded:
        code, registers, _, low = unpack_from("<BBhi", loaded_insns(kernel), 0)
        assert (code, registers, low) == (0x18, R1 | abi.BPF_PSEUDO_MAP_FD << 4, loaded.maps["counts"].fd)
        code, registers, _, low = unpack_from("<BBhi", loaded_insns(kernel), 16)
        assert (registers, low) == (R2 | abi.BPF_PSEUDO_MAP_VALUE << 4, loaded.maps["data"].fd)
        assert unpack_from("<i", loaded_insns(kernel), 28) == (12,)
        assert loaded_insns(kernel)[32:] == insns[32:]


def test_kernel_symbols(kernel: FakeKernel) -> None:
    btf = types()
    call = pack("<BBhi", 0x85, 0, 0, -1)
    insns = encode([ld_imm64(R1, 0)]) + call + RETURN
    relocs = (Reloc(0, "ksym", "runqueues"), Reloc(2, "kfunc", "vfs_read"))
    with load(kernel, Spec((), (program(insns=insns, relocs=relocs),)), types=btf):
        data = loaded_insns(kernel)
    assert unpack_from("<BBhi", data, 0) == (0x18, R1 | abi.BPF_PSEUDO_BTF_ID << 4, 0, btf.id_of("runqueues", "var"))
    assert unpack_from("<BBhi", data, 16) == (0x85, abi.BPF_PSEUDO_KFUNC_CALL << 4, 0, btf.id_of("vfs_read", "func"))


def test_a_variable_that_btf_does_not_describe_is_given_by_address(kernel: FakeKernel) -> None:
    kernel.files["/proc/kallsyms"] = b"ffffffff81234567 D jiffies\nffffffff80000000 D twice\nffffffff80000008 d twice\n"
    insns = encode([ld_imm64(R1, 0)]) + RETURN
    with load(kernel, Spec((), (program(insns=insns, relocs=(Reloc(0, "ksym", "jiffies"),)),)), types=types()):
        low, high = unpack_from("<I", loaded_insns(kernel), 4)[0], unpack_from("<I", loaded_insns(kernel), 12)[0]
    assert high << 32 | low == 0xFFFFFFFF81234567
    for symbol, reason in (("twice", "there has 2"), ("nothing", "there is not one")):
        with pytest.raises(KernelError, match=reason):
            load(kernel, Spec((), (program(insns=insns, relocs=(Reloc(0, "ksym", symbol),)),)), types=types())


@pytest.mark.parametrize(
    ("attach_type", "function", "kind", "name"),
    [
        (abi.BPF_TRACE_FENTRY, "vfs_read", "func", "vfs_read"),
        (abi.BPF_TRACE_FENTRY, "vmlinux:vfs_read", "func", "vfs_read"),
        (abi.BPF_TRACE_RAW_TP, "sched_switch", "typedef", "btf_trace_sched_switch"),
        (abi.BPF_TRACE_RAW_TP, "btf_trace_sched_switch", "typedef", "btf_trace_sched_switch"),
        (abi.BPF_TRACE_ITER, "task", "func", "bpf_iter_task"),
    ],
)
def test_targets_of_tracing_programs(kernel: FakeKernel, attach_type: int, function: str, kind: str, name: str) -> None:
    btf = types()
    with load(kernel, Spec((), (program(attach_function=function, expected_attach_type=attach_type),)), types=btf):
        [attribute] = kernel.bpf_calls("BPF_PROG_LOAD")
    assert bpf_field(abi.PROG_LOAD, "attach_btf_id", attribute) == btf.id_of(name, kind)
    assert bpf_field(abi.PROG_LOAD, "expected_attach_type", attribute) == attach_type


@pytest.fixture
def with_module(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    """A kernel with BTF of its own and of the module "mod"."""
    monkeypatch.setenv("HARKEN_CACHE", "off")
    base = BtfBuilder()
    integer = base.integer("int", 4)
    prototype = base.proto(integer, [("a", integer)])
    base.func("vfs_read", prototype)
    split = BtfBuilder(first=base.next_id, strings_base=base.strings_length)
    split.func("mod_open", split.proto(integer, []))
    kernel.files["/sys/kernel/btf/vmlinux"] = base.build()
    kernel.files["/sys/kernel/btf/mod"] = split.build()
    names = {1: (b"vmlinux", 1), 2: (b"", 0), 3: (b"mod", 1)}
    opened: dict[int, int] = {}

    def next_id(call: Call) -> int:
        start = bpf_field(abi.GET_ID, "start_id", call.args[1])
        pack_into("=I", call.args[1].data, abi.GET_ID["next_id"][0], start + 1)
        return 0 if start + 1 in names else -errno.ENOENT

    def by_id(call: Call) -> int:
        fd = kernel.new_fd()
        opened[fd] = bpf_field(abi.GET_ID, "start_id", call.args[1])
        return fd

    def info(call: Call) -> int:
        inner = call.args[1].at(abi.OBJ_GET_INFO["info"][0])
        name, of_kernel = names[opened[bpf_field(abi.OBJ_GET_INFO, "bpf_fd", call.args[1])]]
        inner.at(abi.BTF_INFO["name"][0])[: len(name)] = name
        pack_into("=I", inner.data, abi.BTF_INFO["kernel_btf"][0], of_kernel)
        return 0

    kernel.on_bpf("BPF_BTF_GET_NEXT_ID", next_id)
    kernel.on_bpf("BPF_BTF_GET_FD_BY_ID", by_id)
    kernel.on_bpf("BPF_OBJ_GET_INFO_BY_FD", info)
    return kernel


def test_functions_of_modules(with_module: FakeKernel) -> None:
    fentry = program("fentry", attach_function="mod:mod_open", expected_attach_type=abi.BPF_TRACE_FENTRY)
    call = pack("<BBhi", 0x85, 0, 0, -1)
    caller = program("caller", call + RETURN, relocs=(Reloc(0, "kfunc", "mod:mod_open"),))
    with load(with_module, Spec((), (fentry, caller))):
        attached, calling = with_module.bpf_calls("BPF_PROG_LOAD")
        assert len(with_module.open_fds) == 2, "the module's BTF is closed again"
    number = bpf_field(abi.PROG_LOAD, "attach_btf_id", attached)
    fd = bpf_field(abi.PROG_LOAD, "attach_btf_obj_fd", attached)
    assert number > 0 and fd > 1000
    assert unpack_from("<BBhi", bpf_field(abi.PROG_LOAD, "insns", calling), 0) == (0x85, abi.BPF_PSEUDO_KFUNC_CALL << 4, 1, number)
    assert bpf_field(abi.PROG_LOAD, "fd_array", calling) == pack("=II", 0, fd)
    assert with_module.open_fds == set()


def test_modules_that_are_not_there(with_module: FakeKernel) -> None:
    for function, error in (("nomod:f", KernelError), ("mod:mod_close", ProbeError), ("mod:vfs_read", None)):
        spec = Spec((), (program(attach_function=function, expected_attach_type=abi.BPF_TRACE_FENTRY),))
        if error is None:
            load(with_module, spec).close()
        else:
            with pytest.raises(error):
                load(with_module, spec)
    assert with_module.open_fds == set()


def test_an_unknown_target_is_a_probe_error(kernel: FakeKernel) -> None:
    with pytest.raises(ProbeError, match="no 'vfs_raed'"):
        load(kernel, Spec(MAPS, (program(attach_function="vfs_raed", expected_attach_type=abi.BPF_TRACE_FENTRY),)), types=types())
    assert kernel.open_fds == set()


def test_a_kernel_without_btf_is_a_kernel_error(kernel: FakeKernel) -> None:
    with pytest.raises(KernelError, match="no type information") as caught:
        load(kernel, Spec((), (program(attach_function="vfs_read", expected_attach_type=abi.BPF_TRACE_FENTRY),)))
    assert "CONFIG_DEBUG_INFO_BTF" in caught.value.hint


def test_contents_come_before_programs_and_are_frozen(kernel: FakeKernel) -> None:
    rodata = MapSpec("rodata", abi.BPF_MAP_TYPE_ARRAY, 4, 8, 1, contents=((bytes(4), b"constant"),), frozen=True)
    with load(kernel, Spec((rodata,), (program(),))):
        order = [call.args[0] for call in kernel.calls if call.name == "bpf"]
    assert order == [abi.BPF_MAP_CREATE, abi.BPF_MAP_UPDATE_ELEM, abi.BPF_MAP_FREEZE, abi.BPF_PROG_LOAD]


def test_type_information_goes_with_every_program(kernel: FakeKernel) -> None:
    spec = Spec((), (program(func_info=pack("=II", 0, 3), line_info=bytes(32)),), btf=b"btf")
    with load(kernel, spec):
        [attribute] = kernel.bpf_calls("BPF_PROG_LOAD")
        assert len(kernel.open_fds) == 1, "the BTF belongs to the program from now on"
    assert bpf_field(abi.PROG_LOAD, "prog_btf_fd", attribute) == 1001
    names = ("func_info_rec_size", "func_info_cnt", "line_info_rec_size", "line_info_cnt")
    assert [bpf_field(abi.PROG_LOAD, name, attribute) for name in names] == [8, 1, 16, 2]


def test_a_kernel_that_refuses_the_type_information_still_gets_the_program(kernel: FakeKernel) -> None:
    kernel.on_bpf("BPF_BTF_LOAD", -errno.EINVAL)
    with load(kernel, Spec((), (program(func_info=bytes(8), line_info=bytes(16)),), btf=b"btf")) as loaded:
        [attribute] = kernel.bpf_calls("BPF_PROG_LOAD")
        assert bpf_field(abi.PROG_LOAD, "func_info_cnt", attribute) == 0
        assert "errors will not name source lines" in loaded.notes[0]


def refusing(text: bytes, number: int = errno.EACCES, needs: int = 0) -> object:
    """A verifier that refuses with ``text``, which needs a log of ``needs`` bytes."""

    def answer(call: Call) -> int:
        log = call.args[1].at(abi.PROG_LOAD["log_buf"][0])
        if log is not None:
            if len(log) < needs:
                return -errno.ENOSPC
            log[: len(text)] = text
        return -number

    return answer


REFUSAL = b"0: (79) r1 = *(u64 *)(r0 +0)\nR0 invalid mem access 'map_value_or_null'\nprocessed 1 insns\n"


def test_the_log_is_asked_for_only_after_a_refusal(kernel: FakeKernel) -> None:
    kernel.on_bpf("BPF_PROG_LOAD", refusing(REFUSAL))  # type: ignore[arg-type]
    with pytest.raises(VerifierError) as caught:
        load(kernel, Spec(MAPS, (program("kprobe:vfs_read"),)))
    assert [bpf_field(abi.PROG_LOAD, "log_level", attribute) for attribute in kernel.bpf_calls("BPF_PROG_LOAD")] == [0, 1]
    error = caught.value
    assert error.log == REFUSAL.decode() and error.errno == errno.EACCES and error.program == "kprobe:vfs_read"
    assert error.message == "the kernel's verifier refused 'kprobe:vfs_read': a pointer that may be null is followed without a check"
    assert kernel.open_fds == set()


def test_the_log_buffer_grows_once(kernel: FakeKernel) -> None:
    kernel.on_bpf("BPF_PROG_LOAD", refusing(REFUSAL, needs=1 << 21))  # type: ignore[arg-type]
    with pytest.raises(VerifierError):
        load(kernel, Spec((), (program(),)))
    sizes = [bpf_field(abi.PROG_LOAD, "log_size", attribute) for attribute in kernel.bpf_calls("BPF_PROG_LOAD")]
    assert sizes == [0, 1 << 20, 1 << 24]


@pytest.mark.parametrize(("true_size", "sizes"), [(5 << 20, [0, 1 << 20, 5 << 20]), (1 << 26, [0, 1 << 20])])
def test_a_kernel_that_tells_the_size_of_the_log(kernel: FakeKernel, true_size: int, sizes: list[int]) -> None:
    def rotate(call: Call) -> int:
        log = call.args[1].at(abi.PROG_LOAD["log_buf"][0])
        if log is None:
            return -errno.E2BIG
        log[: len(REFUSAL)] = REFUSAL
        pack_into("=I", call.args[1].data, abi.PROG_LOAD["log_true_size"][0], true_size)
        return -errno.ENOSPC if len(log) < true_size else -errno.E2BIG

    kernel.on_bpf("BPF_PROG_LOAD", rotate)
    with pytest.raises(VerifierError, match="may be null"):
        load(kernel, Spec((), (program(),)))
    assert [bpf_field(abi.PROG_LOAD, "log_size", attribute) for attribute in kernel.bpf_calls("BPF_PROG_LOAD")] == sizes


def test_a_refusal_without_a_log_is_explained_by_its_errno(kernel: FakeKernel) -> None:
    kernel.on_bpf("BPF_PROG_LOAD", -errno.EPERM)
    with pytest.raises(KernelError) as caught:
        load(kernel, Spec((), (program(),)))
    assert not isinstance(caught.value, VerifierError)
    assert "program 'p' (tracepoint)" in caught.value.message and "CAP_BPF" in caught.value.hint


def test_a_signal_during_verification_is_no_refusal(kernel: FakeKernel) -> None:
    kernel.on_bpf("BPF_PROG_LOAD", -errno.EAGAIN, -errno.EAGAIN, 8)
    with load(kernel, Spec((), (program(),))) as loaded:
        assert loaded.programs["p"].fd == 8


def test_a_program_that_loads_the_second_time_is_kept(kernel: FakeKernel) -> None:
    kernel.on_bpf("BPF_PROG_LOAD", -errno.ENOMEM, 8)
    with load_program(kernel, abi.BPF_PROG_TYPE_TRACEPOINT, RETURN, name="p") as loaded:
        assert loaded.fd == 8


def test_logs_of_programs_that_load(kernel: FakeKernel) -> None:
    def answer(call: Call) -> int:
        call.args[1].at(abi.PROG_LOAD["log_buf"][0])[:9] = b"processed"
        return kernel.new_fd()

    kernel.on_bpf("BPF_PROG_LOAD", answer)
    with load(kernel, Spec((), (program(),)), log_level=4) as loaded:
        assert loaded.logs == {"p": "processed"}
    assert bpf_field(abi.PROG_LOAD, "log_level", kernel.bpf_calls("BPF_PROG_LOAD")[0]) == 4


@pytest.mark.parametrize("failing", ["BPF_MAP_CREATE", "BPF_MAP_UPDATE_ELEM", "BPF_MAP_FREEZE", "BPF_PROG_LOAD"])
@pytest.mark.parametrize("nth", [0, 1])
def test_a_failure_at_any_step_leaves_nothing_open(kernel: FakeKernel, failing: str, nth: int) -> None:
    good = (lambda call: kernel.new_fd()) if failing in ("BPF_MAP_CREATE", "BPF_PROG_LOAD") else 0
    kernel.on_bpf(failing, *[good] * nth, -errno.EINVAL)
    maps = tuple(MapSpec(f"m{i}", 2, 4, 8, 1, contents=((bytes(4), bytes(8)),), frozen=True) for i in range(2))
    spec = Spec(maps, (program("a", func_info=bytes(8)), program("b", func_info=bytes(8))), btf=b"btf")
    with pytest.raises(KernelError):
        load(kernel, spec)
    assert kernel.open_fds == set()


def test_a_spec_that_contradicts_itself(kernel: FakeKernel) -> None:
    insns = encode([ld_imm64(R1, 0)]) + RETURN
    for reloc, reason in ((Reloc(0, "map", "absent"), "uses the map 'absent'"), (Reloc(0, "magic", "x"), "unknown kind 'magic'")):
        with pytest.raises(KernelError, match=reason):
            load(kernel, Spec(MAPS, (program(insns=insns, relocs=(reloc,)),)), types=types())
    assert kernel.open_fds == set()
