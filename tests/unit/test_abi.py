"""The generated ABI: reproducible from what is checked in, and true where one can know it from elsewhere."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
from pathlib import Path
from types import ModuleType

import pytest

from harken.abi import bpf, bpf_insn, elf, perf_event
from harken.abi.arch import MACHINES, for_machine
from harken.abi.bpf_helpers import HELPERS, name_of
from harken.abi.bpf_names import ATTACH_TYPES, COMMANDS, LINK_TYPES, MAP_TYPES, PROG_TYPES
from harken.base.errors import UsageError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_abi", ROOT / "tools/generate_abi.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generating_again_changes_no_byte(generator: ModuleType) -> None:
    made = generator.modules()
    assert len(made) >= 10
    for name, text in made.items():
        assert (ROOT / "src/harken/abi" / name).read_text() == text, f"{name}: run tools/generate_abi.py"


def test_check_notices_a_changed_byte(generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "arch").mkdir()
    for name, text in generator.modules().items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(generator, "ABI", tmp_path)
    assert generator.main(["--check"]) == 0
    (tmp_path / "bpf.py").write_text((tmp_path / "bpf.py").read_text().replace("BPF_MAP_CREATE = 0", "BPF_MAP_CREATE = 1"))
    assert generator.main(["--check"]) == 1


def test_every_module_is_generated_or_a_table_of_contents(generator: ModuleType) -> None:
    made = set(generator.modules())
    here = {str(path.relative_to(ROOT / "src/harken/abi")) for path in (ROOT / "src/harken/abi").rglob("*.py")}
    assert here - made == {"__init__.py", "arch/__init__.py"}


def test_known_numbers() -> None:
    assert (bpf.BPF_MAP_CREATE, bpf.BPF_PROG_LOAD, bpf.BPF_LINK_CREATE) == (0, 5, 28)
    assert (bpf.BPF_MAP_TYPE_HASH, bpf.BPF_MAP_TYPE_PERF_EVENT_ARRAY, bpf.BPF_MAP_TYPE_RINGBUF) == (1, 4, 27)
    assert (bpf.BPF_PROG_TYPE_KPROBE, bpf.BPF_PROG_TYPE_TRACING, bpf.BPF_PROG_TYPE_SYSCALL) == (2, 26, 31)
    assert (bpf.BPF_TRACE_FENTRY, bpf.BPF_PERF_EVENT, bpf.BPF_TRACE_KPROBE_MULTI) == (24, 41, 42)
    assert (bpf.BPF_PSEUDO_MAP_FD, bpf.BPF_PSEUDO_MAP_VALUE, bpf.BPF_PSEUDO_BTF_ID) == (1, 2, 3)
    assert (bpf.BPF_ANY, bpf.BPF_NOEXIST, bpf.BPF_EXIST, bpf.BPF_F_NO_PREALLOC, bpf.BPF_F_MMAPABLE) == (0, 1, 2, 1, 1024)
    # values that do not fit 32 bits signed, which compilers' BTF may leave out
    assert (bpf.BPF_F_CURRENT_CPU, bpf.BPF_RINGBUF_BUSY_BIT, bpf.BPF_RINGBUF_DISCARD_BIT) == (0xFFFFFFFF, 1 << 31, 1 << 30)
    assert HELPERS["map_lookup_elem"] == 1 and HELPERS["ringbuf_output"] == 130 and name_of(6) == "trace_printk"
    assert name_of(99999) == "helper#99999"
    assert (bpf_insn.BPF_ALU64, bpf_insn.BPF_JMP32, bpf_insn.BPF_CALL, bpf_insn.BPF_REG_10) == (7, 6, 0x80, 10)
    assert (perf_event.PERF_TYPE_TRACEPOINT, perf_event.PERF_COUNT_SW_BPF_OUTPUT, perf_event.PERF_RECORD_SAMPLE) == (2, 10, 9)
    assert (perf_event.PERF_EVENT_IOC_ENABLE, perf_event.PERF_EVENT_IOC_SET_BPF) == (0x2400, 0x40042408)
    assert perf_event.PERF_CONTEXT_USER == (1 << 64) - 512
    assert (elf.EM_X86_64, elf.EM_AARCH64, elf.EM_BPF, elf.SHT_GNU_versym, elf.NT_GNU_BUILD_ID, elf.NT_STAPSDT) == (
        62,
        183,
        247,
        0x6FFFFFFF,
        3,
        3,
    )


def test_layouts() -> None:
    assert bpf.PROG_LOAD["insns"] == (8, "=Q") and bpf.PROG_LOAD["expected_attach_type"] == (68, "=I")
    assert bpf.LINK_CREATE["perf_event_bpf_cookie"] == (16, "=Q") and bpf.LINK_CREATE["kprobe_multi_syms"] == (24, "=Q")
    assert bpf.MAP_CREATE["map_name"] == (28, "16s")
    assert bpf.PROG_INFO["recursion_misses"] == (208, "=Q")
    assert perf_event.ATTR["config1"] == (56, "=Q") and perf_event.ATTR_FLAGS["freq"] == 10 and perf_event.ATTR_FLAGS_OFFSET == 40
    assert perf_event.MMAP_PAGE["data_head"] == (1024, "=Q")
    assert elf.ELF64_SYM_SIZE == 24 and elf.ELF64_HDR["e_machine"] == (18, "=H") and elf.ELF32_PHDR_SIZE == 32


@pytest.mark.parametrize("module", [bpf, perf_event, elf])
def test_fields_lie_inside_of_their_structs(module: ModuleType) -> None:
    from struct import calcsize

    layouts = {name: value for name, value in vars(module).items() if isinstance(value, dict) and f"{name}_SIZE" in vars(module)}
    assert layouts
    for name, layout in layouts.items():
        for field, (offset, form) in layout.items():
            assert offset + calcsize(form) <= getattr(module, f"{name}_SIZE"), (name, field)


def test_names_for_people() -> None:
    assert COMMANDS[5] == "prog_load" and MAP_TYPES[27] == "ringbuf" and PROG_TYPES[5] == "tracepoint"
    assert ATTACH_TYPES[24] == "trace_fentry" and LINK_TYPES[7] == "perf_event"
    # a deprecated name does not hide the one in use
    assert MAP_TYPES[bpf.BPF_MAP_TYPE_CGROUP_STORAGE] == "cgroup_storage"


@pytest.mark.parametrize("machine", MACHINES)
def test_machines_have_all_tables(machine: str) -> None:
    arch = for_machine(machine)
    assert arch.name == machine
    for register in (*arch.arguments, *arch.syscall_arguments, arch.syscall_number, arch.result, arch.ip, arch.sp, arch.fp):
        assert 0 <= arch.registers[register] <= arch.registers_size - 8
    assert max(arch.registers.values()) == arch.registers_size - 8
    assert {"bpf", "openat", "perf_event_open", "futex", "clone3"} <= set(arch.syscalls)
    assert all(arch.syscall(name) == arch.syscalls[name] for name in ("bpf", "ioctl", "openat"))
    with pytest.raises(UsageError, match="no system call 'frobnicate'"):
        arch.syscall("frobnicate")


def test_machine_facts() -> None:
    x86, arm = for_machine("x86_64"), for_machine("aarch64")
    assert x86.registers["di"] == x86.registers["rdi"] == 112 and x86.registers["ip"] == 128 and x86.registers["orig_ax"] == 120
    assert arm.registers["x0"] == arm.registers["r0"] == 0 and arm.registers["sp"] == 248 and arm.registers["lr"] == 240
    assert x86.syscall("bpf") == 321 and arm.syscall("bpf") == 280 and arm.syscall("openat") == 56
    assert "open" in x86.syscalls and "open" not in arm.syscalls
    # the fourth argument of a system call is not where a function's is: the syscall instruction destroys rcx
    assert x86.arguments[3] == "cx" and x86.syscall_arguments[3] == "r10"
    assert for_machine("amd64") is x86 and for_machine("arm64") is arm
    with pytest.raises(UsageError, match="vax"):
        for_machine("vax")


@pytest.mark.skipif(not os.path.exists("/usr/include/linux/bpf.h"), reason="the kernel's headers are not installed")
def test_installed_headers_agree() -> None:
    """Enumerators of the installed <linux/bpf.h> with explicit values, and the macros, say the same (older headers know fewer)."""
    text = Path("/usr/include/linux/bpf.h").read_text()
    checked = 0
    for name, value in re.findall(r"^#define\s+(BPF_(?:F|PSEUDO|OBJ|TAG)_?\w*)\s+(\d+|0x[0-9a-f]+|\(1U << \d+\))$", text, re.M):
        ours = getattr(bpf, name, None)
        if ours is not None:
            assert ours == eval(value.replace("U", "")), name
            checked += 1
    assert checked > 10


def test_generated_modules_are_plain_numbers() -> None:
    """Importing them must stay cheap: nothing but assignments of constants."""
    for path in (ROOT / "src/harken/abi").rglob("*.py"):
        if path.name == "__init__.py" or path.name == "bpf_helpers.py":
            continue
        for node in ast.parse(path.read_text()).body:
            assert isinstance(node, (ast.Assign, ast.AnnAssign, ast.Expr, ast.If, ast.ImportFrom)), f"{path}:{node.lineno}"
