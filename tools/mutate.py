#!/usr/bin/env python3
"""Feeds damaged ELF files (with DWARF, call frames, USDT notes), perf.data and trace.dat recordings to harken's readers: do they end, in
bounds?

    .venv/bin/python tools/mutate.py elf --seed 1 --count 10000 FILE...
    .venv/bin/python tools/mutate.py perf --seed 1 --count 10000 perf.data...
    .venv/bin/python tools/mutate.py trace --seed 1 --count 10000 --workers 2 [trace.dat...]
    .venv/bin/python tools/mutate.py trace --sanitize --count 10000 --workers 2 [trace.dat...]

Every case is a file with a few damages (bits, numbers that are extreme, pieces copied or cut off), mostly in headers and tables;
recordings of ftrace are made in code (``harken.testing.trace_mutants``), those that are named are damaged, too, and each is read in all
ways (``harken.testing.trace_ways``) with the accelerator and without, which must give the same.  A case may
take ``--seconds`` of CPU time and ``--megabytes`` of memory, and may raise nothing but harken's own errors.  Prints the cases that do
something else (``--only SEED:NUMBER`` runs one of them again); the status is 1 if there are any.

Cases run in child processes, a few hundred in each, so that a crash of one is seen as well.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mutate_trace

from harken.base.errors import HarkenError
from harken.formats.elf import Elf
from harken.kernel.kernel import live

_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
_TABLES = (".debug", ".zdebug", ".eh_frame", ".symtab", ".dynsym", ".strtab", ".note", ".gnu", ".rel", ".stapsdt")
_PER_CHILD = 100


class Seed(NamedTuple):
    """A good file, and the places where damage matters most: (start, end)."""

    path: str
    data: bytes
    places: Sequence[tuple[int, int]]


def elf_seed(path: str) -> Seed:
    data = Path(path).read_bytes()
    elf = Elf(data, path)
    places = [(0, 64), (len(data) - 64 * len(elf.sections), len(data))]
    places += [(s.offset, s.offset + len(s.data)) for s in elf.sections if s.name.startswith(_TABLES) and s.size]
    return Seed(path, data, places)


def perf_seed(path: str) -> Seed:
    data = Path(path).read_bytes()
    return Seed(path, data, [(0, 256), (0, min(len(data), 4096)), (0, len(data)), (max(len(data) - 8192, 0), len(data))])


def damaged(seed: Seed, source: random.Random) -> bytes:
    data = bytearray(seed.data)
    for _ in range(source.choice((1, 1, 2, 3, 8, 30))):
        low, high = source.choice(seed.places) if source.random() < 0.85 else (0, len(data))
        high = min(high, len(data))
        if high - low < 16:
            continue
        place = source.randrange(low, high - 8)
        kind = source.randrange(8)
        if kind == 0:
            data[place] ^= 1 << source.randrange(8)
        elif kind == 1:
            data[place] = source.randrange(256)
        elif kind in (2, 3):
            size = source.choice((1, 2, 4, 8))
            place -= place % size
            data[place : place + size] = (source.choice(_EXTREMES) & (1 << 8 * size) - 1).to_bytes(size, "little")
        elif kind == 4:
            size = source.choice((4, 8))
            place -= place % size
            value = int.from_bytes(data[place : place + size], "little") + source.choice((-8, -1, 1, 8, 0x1000, len(data)))
            data[place : place + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        elif kind == 5:
            size, other = source.randrange(1, 64), source.randrange(low, high - 8)
            data[place : place + size] = data[other : other + size]
        elif kind == 6:
            size = min(source.randrange(1, 4096), high - place)
            data[place : place + size] = source.randbytes(size) if source.random() < 0.5 else bytes([source.randrange(256)]) * size
        elif source.random() < 0.2:
            del data[source.choice((place, source.randrange(len(data)))) :]
    return bytes(data)


def tolerant(*steps: Callable[[], object]) -> None:
    for step in steps:
        try:
            step()
        except HarkenError as error:
            str(error)


def read_elf(data: bytes, path: str) -> None:
    from harken.symbols.lines import LineTable
    from harken.symbols.model import Mapping
    from harken.symbols.processes import Processes
    from harken.symbols.symbol_table import SymbolTable
    from harken.symbols.unwind.frame_table import FrameTable
    from harken.symbols.unwind.unwinder import Unwinder

    elf = Elf(data, path)
    addresses = [elf.entry, 0, 0x1000, (1 << 64) - 1]

    def lines() -> None:
        table = LineTable.of(elf, live())
        if table is not None:
            for address in addresses[:40]:
                table.lookup(address)
            for file in table.files()[:3]:
                table.addresses(file.rpartition("/")[2] or "x.c", 7)

    def frames() -> None:
        table = FrameTable(elf)
        for address in addresses:
            fde = table.find(address)
            if fde is not None:
                tolerant(lambda fde=fde, address=address: fde.row(address))  # type: ignore[misc]

    def stacks() -> None:
        """Stacks full of return addresses, so that every frame leads on."""
        machine = {"i686": "x86_64"}.get(elf.machine_name, elf.machine_name)
        if machine not in ("x86_64", "aarch64"):
            return
        processes, word = Processes(None), elf.bits // 8
        code = [segment for segment in elf.segments if segment.type == 1 and segment.flags & 1][:8]
        for segment in code:
            start, end = segment.address & -4096, min(segment.address + segment.memory_size, (1 << 64) - 4096)
            if start < end:
                processes.add(1, Mapping(start, end, segment.offset & -4096, path))

        def process_has(address: int) -> bool:
            return processes.find(1, address) is not None

        unwinder = Unwinder(machine, processes, lambda _pid, _mapping: elf)
        top = 0xFFFF0000
        known = [address + 1 for address in addresses if process_has(address)] or [elf.entry]
        words = [top + 8 * number if number % 7 == 3 else known[number % len(known)] for number in range(512)]
        stack = b"".join([(value & (1 << elf.bits) - 1).to_bytes(word, "little") for value in words])
        for address in known[:60]:
            registers = dict.fromkeys(("bx", "bp", "x29", "r12", "ax"), top + 32) | {
                "ip": address,
                "pc": address,
                "sp": top,
                "lr": elf.entry,
            }
            for pointers in (False, True):
                unwinder.walk(1, registers | {"bits": elf.bits}, stack, 300, pointers)

    def functions() -> None:
        for _, address, size in elf.functions()[:200]:
            addresses.extend((address, address + size // 2))
            elf.symbol_at(address)
        elf.symbol("main")

    def names() -> None:
        table = SymbolTable(elf)
        table.lookup_many(addresses)
        SymbolTable.unpack(table.pack()).lookup_many(addresses)

    def markers() -> None:
        for marker in elf.stapsdt():
            tolerant(lambda marker=marker: marker.operands)  # type: ignore[misc]

    tolerant(
        lambda: elf.segments, lambda: elf.sections, lambda: elf.build_id, elf.debug_link, functions, lambda: sum(1 for _ in elf.symbols()),
        names, markers, frames, stacks, lines,
    )  # fmt: skip


def read_perf(data: bytes, path: str) -> None:
    from harken.formats.perf_data import PerfData
    from harken.symbols.symbolizer_recording import RecordingSymbolizer

    with PerfData(data, path) as recording:
        symbolizer = RecordingSymbolizer(live(), recording)
        for batch in recording.batches():
            for _ in symbolizer.blocks(batch):
                pass
        symbolizer.spaces.processes.close()
    # and every sample as an object
    with PerfData(data, path) as recording:
        for batch in recording.batches():
            for layout in batch.layouts:
                for start in range(0, min(len(data) - 64, 4096), 64):
                    tolerant(lambda start=start, layout=layout: layout.decode(memoryview(data), start, 64))  # type: ignore[misc]


class Late(BaseException):
    """A case's time is up.  No code that is tested may take this for an error of a file or of its own."""


def run_case(read: Callable[..., None], seeds: Sequence[Any], seed: int, number: int, options: argparse.Namespace) -> str:
    """What went wrong, "" if nothing."""
    source = random.Random(f"{seed}:{number}")
    given: tuple[Any, ...]
    if options.kind == "trace":
        from harken.testing.trace_mutants import mutant

        given = mutant(seeds, source), "trace.dat", source
    else:
        chosen = source.choice(seeds)
        given = damaged(chosen, source), chosen.path
    if options.keep:
        Path(options.keep).write_bytes(given[0])

    def late(_number: int, _frame: object) -> None:
        raise Late

    signal.signal(signal.SIGPROF, late)
    begun = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, options.seconds)
    try:
        read(*given)
    except HarkenError as error:
        str(error)
    except Late:
        return f"{given[1]}: more than {options.seconds} s, at\n{traceback.format_exc()}"
    except MemoryError:
        return f"{given[1]}: more than {options.megabytes} MB, at\n{traceback.format_exc()}"
    except Exception:
        return f"{given[1]}: {traceback.format_exc(limit=-1)}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    global _longest
    _longest = max(_longest, time.process_time() - begun)
    return ""


_longest = 0.0


def run_child(read: Callable[..., None], seeds: Sequence[Any], numbers: range, options: argparse.Namespace, pipe: int) -> None:
    with open("/proc/self/statm") as file:
        soft = (options.megabytes << 20) + int(file.read().split()[0]) * resource.getpagesize()
    if options.megabytes:
        resource.setrlimit(resource.RLIMIT_AS, (soft, soft))
    gc.freeze()
    resource.setrlimit(resource.RLIMIT_CPU, (int(options.seconds * len(numbers)) + 60,) * 2)  # of a loop in C, which no signal ends
    with os.fdopen(pipe, "w", errors="backslashreplace") as out:
        for number in numbers:
            out.write(f"+{number}\n")
            out.flush()
            problem = run_case(read, seeds, options.seed, number, options)
            if problem:
                out.write(f"!{options.seed}:{number} {problem}\n")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        out.write(f"={json.dumps([_longest, peak, mutate_trace.WAYS_SEEN])}\n")


class Totals:
    """What all children have seen."""

    def __init__(self) -> None:
        self.count, self.bad, self.longest, self.largest = 0, 0, 0.0, 0
        self.ways: dict[str, tuple[int, float]] = {}

    def take(self, longest: float, largest: int, ways: dict[str, tuple[int, float]]) -> None:
        self.longest, self.largest = max(self.longest, longest), max(self.largest, largest)
        for way, (count, seconds) in ways.items():
            before = self.ways.get(way, (0, 0.0))
            self.ways[way] = before[0] + count, max(before[1], seconds)


def run_batch(read: Callable[..., None], seeds: Sequence[Any], numbers: range, options: argparse.Namespace, totals: Totals) -> None:
    """Runs some cases in a child process."""
    inner, outer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(inner)
        try:
            run_child(read, seeds, numbers, options, outer)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(outer)
    try:
        watch(inner, pid, options.seed, totals)
    finally:
        mutate_trace.file_of(pid).unlink(missing_ok=True)


def watch(inner: int, pid: int, seed: int, totals: Totals) -> None:
    """Prints what a child tells, up to its end."""
    current, ended = "", False
    with os.fdopen(inner) as file:
        for line in file:
            if line[0] == "+":
                current = line[1:-1]
            elif line[0] == "=":
                ended = True
                totals.take(*json.loads(line[1:]))
            else:
                totals.bad += line[0] == "!"
                sys.stdout.write(line)
                sys.stdout.flush()
    _, status = os.waitpid(pid, 0)
    if not ended:
        totals.bad += 1
        print(f"!{seed}:{current} ended the process, status {status:#x}")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=("elf", "perf", "trace"))
    parser.add_argument("files", nargs="*", help="good files; recordings of ftrace are also made in code")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=1, help="processes at once")
    parser.add_argument("--seconds", type=float, default=10.0, help="CPU time that a case may take, in all ways together")
    parser.add_argument("--megabytes", type=int, default=512, help="memory that it may take, 0 for any")
    parser.add_argument("--only", help="SEED:NUMBER of one case")
    parser.add_argument("--keep", help="where to put the file of that case")
    parser.add_argument(
        "--sanitize", action="store_true", help="recordings of ftrace: with an accelerator that checks itself (gcc's sanitizers)"
    )
    options = parser.parse_args()
    if options.sanitize:
        mutate_trace.sanitize()
        options.megabytes = 0  # the sanitizer maps terabytes
    os.environ |= {"HARKEN_WORKERS": "1", "HARKEN_DEBUG": "1"}
    read, prepare = {
        "elf": (read_elf, elf_seed),
        "perf": (read_perf, perf_seed),
        "trace": (mutate_trace.read_trace, mutate_trace.trace_seed),
    }[options.kind]
    seeds: list[Any] = [prepare(path) for path in options.files]  # type: ignore[operator]
    if options.kind == "trace":
        from harken.testing.trace_mutants import good_recordings

        seeds += good_recordings()
    elif not seeds:
        parser.error("there is nothing to damage")
    first, count = 0, options.count
    if options.only:
        options.seed, first = map(int, options.only.split(":"))
        count = 1
    batches = [range(start, min(start + _PER_CHILD, first + count)) for start in range(first, first + count, _PER_CHILD)]
    pipes: list[int] = []
    lanes: list[int] = []
    for lane in range(options.workers):
        inner, outer = os.pipe()
        lanes.append(os.fork())
        if not lanes[-1]:
            os.close(inner)
            totals = Totals()
            try:
                for numbers in batches[lane :: options.workers]:
                    run_batch(read, seeds, numbers, options, totals)
                    totals.count += len(numbers)
            except KeyboardInterrupt:
                pass
            os.write(outer, json.dumps([totals.count, totals.bad, totals.longest, totals.largest, totals.ways]).encode())
            os._exit(0)
        os.close(outer)
        pipes.append(inner)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the others tell what they have seen so far
    totals = Totals()
    for inner in pipes:
        with os.fdopen(inner, "rb") as file:
            done, bad, *others = json.loads(file.read())
        totals.count += done
        totals.bad += bad
        totals.take(*others)
    for lane in lanes:
        os.waitpid(lane, 0)
    for way, (times, seconds) in sorted(totals.ways.items()):
        print(f"{times:8} {seconds:8.3f} s at most  {way}")
    print(f"{totals.count} cases, {totals.bad} bad; the longest took {totals.longest:.2f} s, the largest process had {totals.largest} MB")
    return totals.bad > 0


if __name__ == "__main__":
    raise SystemExit(main())
