"""Names for recordings: which file lies where at the time of a sample, and the text of call chains."""

from __future__ import annotations

import random

import pytest

from harken.abi import perf_event as abi
from harken.cli.commands import symbolize
from harken.formats.elf import Elf
from harken.formats.perf_data import PerfData
from harken.kernel.kernel import live
from harken.symbols.kernel_symbols import KernelSymbols
from harken.symbols.symbol_table import SymbolTable
from harken.symbols.symbolizer_chains import END_OF_CHAIN, hexadecimal
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
    blocks = [bytes(block) for batch in recording.batches() for block in symbolizer.blocks(batch, chains)]
    return b"".join(blocks).decode().split("\n")[:-1]


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


@pytest.mark.parametrize("seed", range(6))
def test_mappings_that_change_all_the_time(files, seed) -> None:
    """Samples of few processes, out of order and in several batches, while files are mapped over one another: told one by one."""
    chance = random.Random(seed)
    builder = PerfDataBuilder("<", (DEFAULT_TYPE, CHAINS)[seed % 2])
    spaces: dict[int, list[str | None]] = {pid: [None] * 4 for pid in range(1, 6)}
    expected: list[tuple[int, str]] = []
    for number in range(30):
        rounds: list[list[tuple[int, tuple[int, ...]]]] = [[], []]
        for time in range(number * 100, number * 100 + 100):
            pid, page, what = chance.randrange(1, 6), chance.randrange(4), chance.random()
            if what < 0.05:
                path = chance.choice(files)
                builder.mmap2(pid, 0x10000 + 0x1000 * page, 0x1000, PLACE, path, time)
                spaces[pid][page] = path
            elif what < 0.06:
                child = chance.choice([other for other in spaces if other != pid])
                builder.fork(pid, child, time)
                if any(spaces[pid]):  # of a process that has no mappings, nothing is inherited
                    spaces[child] = list(spaces[pid])
            elif what < 0.9 and (mapped := spaces[pid][page]):  # nothing runs where nothing is mapped
                rounds[chance.randrange(2)].append((time, (pid, 0x10010 + 0x1000 * page)))
                mapped = spaces[pid][page]
                expected.append((time, f"in_{mapped.rpartition('/')[2]} ({mapped})" if mapped else "[unknown] ([unknown])"))
        for cpu in rounds:
            for time, (pid, ip) in cpu:
                after = builder.chain([abi.PERF_CONTEXT_USER, ip]) if seed % 2 else b""
                builder.sample(after, ip=ip, pid=pid, tid=pid, time=time)
        builder.round()
    for window in (1 << 26, 5000):
        recording = PerfData(builder.build())
        symbolizer = RecordingSymbolizer(live(), recording, kernel_symbols=KernelSymbols(None, KERNEL))
        found: list[str] = []
        for batch in recording.batches(window):
            lines = b"".join([bytes(block) for block in symbolizer.blocks(batch)]).decode().split("\n")
            found += [" ".join(line.split()[1:]) for line in lines if line]
        assert found == [text for _, text in sorted(expected)] and len(found) > 500


def test_no_times_and_times_that_are_no_numbers(files) -> None:
    one, two = files
    untimed = PerfDataBuilder("<", abi.PERF_SAMPLE_IP | abi.PERF_SAMPLE_TID)
    far = PerfDataBuilder("<")
    for builder, later in ((untimed, 0), (far, (1 << 63) - 1000)):
        builder.mmap2(7, 0x10000, 0x1000, PLACE, one, later).sample(ip=0x10010, pid=7, tid=7, **({"time": later + 5} if later else {}))
        builder.mmap2(7, 0x10000, 0x1000, PLACE, two, later + 10).sample(
            ip=0x10010, pid=7, tid=7, **({"time": later + 20} if later else {})
        )
        assert text(builder) == [at(0x10010) + f"in_one ({one})", at(0x10010) + f"in_two ({two})"]


def test_chains_share_their_outer_ends(files) -> None:
    one, _ = files
    builder = PerfDataBuilder(sample_type=CHAINS).mmap2(7, 0x10000, 0x1000, PLACE, one, 1)
    kernel, user = abi.PERF_CONTEXT_KERNEL, abi.PERF_CONTEXT_USER
    stack = [0x10010, 0xFFFFFFFF81000204, 5] * 30
    chains = [[kernel, 0xFFFFFFFF81000104, user, *stack[inner:]] for inner in (0, 1, 2, 40)]
    chains += [[user, *stack], [kernel, *[0xFFFFFFFF81000204] * 90], [user, END_OF_CHAIN, 5]]
    for time, chain in enumerate(chains, 10):
        builder.sample(builder.chain(chain), ip=1, pid=7, tid=7, time=time)
    names = {word: f"{word:16x} [unknown] ([unknown])" for word in (5, END_OF_CHAIN)}
    names[0x10010] = f"{PLACE + 0x10:16x} in_one ({one})"
    expected = []
    for chain in chains:
        expected.append("")
        mode = 0
        for word in chain:
            if word in (kernel, user):
                mode = word
            elif word >> 63:
                name = {0xFFFFFFFF81000104: "second", 0xFFFFFFFF81000204: "last"}[word] if mode == kernel else ""
                expected.append(f"\t{word:16x} " + (f"{name} ([kernel.kallsyms])" if name else "[unknown] ([unknown])"))
            else:
                expected.append(f"\t{names[word]}")
        expected.append("")
    assert text(builder) == expected
