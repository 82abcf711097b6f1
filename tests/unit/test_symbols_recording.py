"""Names for recordings: which file lies where at the time of a sample, and the text of call chains."""

from __future__ import annotations

import pytest

from harken.abi import perf_event as abi
from harken.cli.commands import symbolize
from harken.formats.elf import Elf
from harken.formats.perf_data import PerfData
from harken.kernel.kernel import live
from harken.symbols.kernel_symbols import KernelSymbols
from harken.symbols.symbol_table import SymbolTable
from harken.symbols.symbolizer_chains import hexadecimal
from harken.symbols.symbolizer_recording import RecordingSymbolizer
from harken.testing.elf_builder import ElfBuilder
from harken.testing.perf_data_builder import DEFAULT_TYPE, PerfDataBuilder

KERNEL = b"ffffffff81000000 T _text\nffffffff81000000 T first\nffffffff81000100 t second\nffffffff81000200 t last\n"
CHAINS = DEFAULT_TYPE | abi.PERF_SAMPLE_CALLCHAIN
BASE = 0x401000
#: Where that lies in the files.
PLACE = SymbolTable(Elf(ElfBuilder().function("f", BASE, 64).build())).file_offset(BASE) or 0


@pytest.fixture
def files(tmp_path):
    """Two programs with a function at the same place."""
    paths = []
    for name in ("one", "two"):
        path = tmp_path / name
        path.write_bytes(ElfBuilder().function(f"in_{name}", BASE, 64).function("_ZN1a1bEi", BASE + 64, 64).build())
        paths.append(str(path))
    return paths


def text(builder: PerfDataBuilder, chains: bool = True, **options) -> list[str]:
    recording = PerfData(builder.build())
    symbols = KernelSymbols(None, KERNEL)
    symbolizer = RecordingSymbolizer(live(), recording, kernel_symbols=symbols, **options)
    return b"".join([text for batch in recording.batches() for text in symbolizer.texts(batch, chains)]).decode().split("\n")[:-1]


def at(ip: int) -> str:
    return f" {ip:16x} "


def test_a_sample_belongs_to_what_was_mapped_then(files) -> None:
    one, two = files
    builder = PerfDataBuilder()
    builder.mmap2(7, 0x10000, 0x1000, PLACE, one, 10)
    for time in (5, 20, 40, 60):
        builder.sample(ip=0x10010, pid=7, tid=7, time=time)
    builder.mmap2(7, 0x10000, 0x1000, PLACE, two, 30)
    builder.fork(7, 8, 50).sample(ip=0x10014, pid=8, tid=8, time=55)
    builder.mmap2(8, 0x10000, 0x1000, PLACE, one, 58).sample(ip=0x10014, pid=8, tid=8, time=59)
    found = text(builder)
    ours = [at(0x10010) + f"in_one ({one})", at(0x10010) + f"in_two ({two})"]
    assert found[1:3] == ours and found[3] == at(0x10014) + f"in_two ({two})"
    assert found[4] == at(0x10014) + f"in_one ({one})" and found[5] == ours[1]


def test_kernel_generated_code_and_nothing(files) -> None:
    builder = PerfDataBuilder()
    builder.mmap2(7, 0x20000, 0x1000, 0, "//anon", 1).mmap2(7, 0x30000, 0x1000, 0, "[stack]", 1, prot=3)
    for time, ip in enumerate([0xFFFFFFFF81000104, 0x20004, 0x30004, 0x99, 0xFFFFFFFFA0000000], 10):
        builder.sample(ip=ip, pid=7, tid=7, time=time)
    assert text(builder, offset=True) == [
        at(0xFFFFFFFF81000104) + "second+0x4 ([kernel.kallsyms])",
        at(0x20004) + "[unknown] (/tmp/perf-7.map)",
        at(0x30004) + "[unknown] ([stack])",
        at(0x99) + "[unknown] ([unknown])",
        at(0xFFFFFFFFA0000000) + "[unknown] ([unknown])",
    ]


def test_a_kernel_that_was_booted_again_lies_elsewhere() -> None:
    builder = PerfDataBuilder()
    builder.mmap(-1, 0xFFFFFFFF9A000000, 0x1000000, 0xFFFFFFFF9A000000, "[kernel.kallsyms]_text", 0)
    builder.sample(ip=0xFFFFFFFF9A000108, pid=0, tid=0, time=5)
    assert text(builder) == [at(0xFFFFFFFF9A000108) + "second ([kernel.kallsyms])"]


def test_call_chains(files) -> None:
    one, _ = files
    builder = PerfDataBuilder(sample_type=CHAINS)
    builder.mmap2(7, 0x10000, 0x1000, PLACE, one, 1)
    kernel, user = abi.PERF_CONTEXT_KERNEL, abi.PERF_CONTEXT_USER
    chains = [
        [kernel, 0xFFFFFFFF81000104, user, 0x10010, 0x99],
        [user, 0x10044, 0xFFFFFFFF81000204],  # a stray value of the process is no function of the kernel
        [kernel, 0xFFFFFFFF81000104, user, 0x10010, 0x99],
        [user, 0x10010, (1 << 64) - 1],  # a value that looks like a marker
        [],
    ]
    for time, chain in enumerate(chains, 10):
        builder.sample(builder.chain(chain), ip=1, pid=7, tid=7, time=time)
    first = [
        "",
        f"\t{0xFFFFFFFF81000104:16x} second ([kernel.kallsyms])",
        f"\t{PLACE + 0x10:16x} in_one ({one})",
        f"\t{0x99:16x} [unknown] ([unknown])",
    ]
    second = ["", f"\t{PLACE + 0x44:16x} a::b ({one})", f"\t{0xFFFFFFFF81000204:16x} [unknown] ([unknown])"]
    fourth = ["", f"\t{PLACE + 0x10:16x} in_one ({one})"]
    pytest.importorskip("demangle")
    assert text(builder) == [*first, "", *second, "", *first, "", *fourth, "", "", ""]
    assert text(builder, chains=False) == [at(1) + "[unknown] ([unknown])"] * 5


def test_a_file_of_another_build_names_nothing(files) -> None:
    one, _ = files
    builder = PerfDataBuilder().mmap2(7, 0x10000, 0x1000, PLACE, one, 1).sample(ip=0x10010, pid=7, tid=7, time=5)
    builder.build_id(one, "ab" * 20)
    assert text(builder) == [at(0x10010) + f"[unknown] ({one})"]


def test_addresses_are_right_justified() -> None:
    addresses = [0, 15, (1 << 44) - 1, 1 << 44, (1 << 48) - 1, 1 << 48, (1 << 60) - 1, 1 << 60, (1 << 64) - 1]
    assert hexadecimal(addresses, b"\t") == [f"\t{address:16x}".encode() for address in addresses]
    assert hexadecimal([], b" ") == [] and hexadecimal([1 << 46], b" ") == [b"     400000000000"]


def test_the_command(tmp_path, files, capsys) -> None:
    path = tmp_path / "perf.data"
    builder = PerfDataBuilder().mmap2(7, 0x10000, 0x1000, PLACE, files[0], 1).comm(7, "prog", 2)
    builder.sample(ip=0x10010, pid=7, tid=9, time=1_500_000_000, cpu=3).fork(7, 8, 3).sample(ip=5, pid=7, tid=7, time=4_000)
    path.write_bytes(builder.build())
    assert symbolize.run(["--recording", str(path), "-F", "comm,pid,tid,cpu,time,ip,sym"]) == 0
    assert capsys.readouterr().out.split("\n") == [
        "            prog     7/7     [000]     0.000004:                 5 [unknown]",
        "              :9     7/9     [003]     1.500000:             10010 in_one",
        "",
    ]
    assert symbolize.run([f"--recording={path}", "-Ftid,time"]) == 0
    assert capsys.readouterr().out == "    7     0.000004: \n    9     1.500000: \n"
    for words, problem in (
        (["-F", "sym"], "belong to ip"),
        (["-F", "nope"], "no field nope"),
        (["-F", "period,ip"], "no period"),
        (["--wrong"], "no option"),
        (["--kallsyms"], "needs a value"),
    ):
        assert symbolize.run(["--recording", str(path), *words]) == 2
        assert problem in capsys.readouterr().err
    assert symbolize.run(["--recording", str(tmp_path / "none")]) == 2 and "cannot open" in capsys.readouterr().err
    path.write_bytes(b"something else")
    assert symbolize.run(["--recording", str(path)]) == 1 and "not a perf.data file" in capsys.readouterr().err
