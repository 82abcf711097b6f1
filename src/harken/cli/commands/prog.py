"""``harken prog``: BPF programs of the whole system: what they are, what the verifier and the JIT made of them, what they cost."""

from __future__ import annotations

import json
import time

from ...base.errors import UsageError
from ..objects import dispatch, named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...kernel.bpf import Program
    from ...kernel.kernel import Kernel

__all__ = ("NAME", "HELP", "run")

NAME = "prog"
HELP = "list BPF programs, show their code and what they cost"

USAGE = """\
usage: harken prog [--json] COMMAND ...

    list [PROG]                 all programs: type, name, sizes, maps, whether compiled to machine code, who holds them
    dump xlated PROG            the instructions as the verifier left them, with the source lines they come from
    dump jited PROG [FILE]      the machine code, as hex or into a file
    stats [SECONDS]             runs and time of all programs meanwhile (default: 1 second)

    PROG    id N | name NAME | tag TAG | pinned FILE, or just N or NAME
"""


def run(argv: Sequence[str]) -> int:
    """Runs the command with the arguments after its name; returns the exit status."""
    return dispatch(NAME, USAGE, {"list": _list, "show": _list, "dump": _dump, "stats": _stats}, argv)


def _some(kernel: Kernel, words: list[str]) -> tuple[list[Program], list[str]]:
    from ...kernel import bpf_dump

    how, what, rest = named(NAME, "program", ("id", "name", "tag", "pinned"), words)
    return bpf_dump.find(kernel, "program", how, what), rest  # type: ignore[return-value]


def _list(kernel: Kernel, words: list[str], as_json: bool) -> int:
    from ...kernel import bpf_dump
    from ...kernel.bpf_info import program_info
    from ...render.bpf_objects import program_json, program_text

    found = _some(kernel, words)[0] if words else bpf_dump.programs(kernel)
    held = bpf_dump.holders(kernel)
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    rows = []
    for program in found:
        with program:
            info, memory = program_info(kernel, program.fd, map_ids=True), bpf_dump.memory_of(kernel, program.fd)
        owners = held.get(("prog", info.id), [])
        seconds = booted + info.load_time / 1e9
        if as_json:
            rows.append(program_json(info, memory, int(seconds), owners))
        else:
            print(program_text(info, memory, time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds)), owners))
    if as_json:
        print(json.dumps(rows[0] if len(rows) == 1 and words else rows))
    return 0


def _dump(kernel: Kernel, words: list[str], as_json: bool) -> int:
    if not words or words[0] not in ("xlated", "jited"):
        raise UsageError("prog: dump what?", "dump xlated PROG, or dump jited PROG")
    found, rest = _some(kernel, words[1:])
    for number, program in enumerate(found):
        with program:
            if len(found) > 1:
                print(f"{'' if number == 0 else chr(10)}{program.id}: {program.name}")
            if words[0] == "jited":
                _jited(kernel, program, rest[:1])
            else:
                _xlated(kernel, program, as_json)
    return 0


def _xlated(kernel: Kernel, program: Program, as_json: bool) -> None:
    from ...formats.insn import disassemble
    from ...kernel import bpf_dump
    from ...render.bpf_objects import source_lines

    data = bpf_dump.code(kernel, program, jited=False)
    if not data:
        raise UsageError(
            f"the kernel does not show the instructions of program {program.id}", "it needs CAP_SYS_ADMIN, and kptr_restrict below 2"
        )
    types, marks = bpf_dump.lines(kernel, program)
    lines = {slot: types._string(text) for slot, _, text, _ in marks} if types is not None else {}
    rows = list(disassemble(data))
    if as_json:
        numbered = [(int(row.partition(":")[0]), row.partition(": ")[2]) for row in rows]
        print(
            json.dumps(
                [{**({"src": lines[slot].strip()} if lines.get(slot) else {}), "insn": slot, "disasm": text} for slot, text in numbered]
            )
        )
        return
    print("\n".join(source_lines(rows, lines)))


def _jited(kernel: Kernel, program: Program, file: list[str]) -> None:
    from ...kernel import bpf_dump

    data = bpf_dump.code(kernel, program, jited=True)
    if not data:
        jit = kernel.read("/proc/sys/net/core/bpf_jit_enable", 16).strip() if kernel.exists("/proc/sys/net/core/bpf_jit_enable") else b""
        why = (
            "the JIT is off (net.core.bpf_jit_enable=0)"
            if jit == b"0"
            else "it is not compiled, or the kernel does not show addresses to us"
        )
        raise UsageError(f"there is no machine code of program {program.id}: {why}")
    if file:
        with open(file[0], "wb") as out:
            out.write(data)
        return
    for start in range(0, len(data), 16):
        print(f"{start:6x}: {data[start : start + 16].hex(' ')}")


def _stats(kernel: Kernel, words: list[str], as_json: bool) -> int:
    from ...kernel import bpf_dump
    from ...kernel.bpf_info import enable_stats, program_info

    try:
        seconds = float(words[0]) if words else 1.0
    except ValueError:
        raise UsageError(f"prog stats: not a number of seconds: {words[0]}") from None
    with enable_stats(kernel):
        before: dict[int, tuple[int, int]] = {}
        for program in bpf_dump.programs(kernel):
            with program:
                info = program.info()
                before[info.id] = (info.run_time_ns, info.run_cnt)
        start = time.monotonic()
        try:
            time.sleep(seconds)
        except KeyboardInterrupt:
            pass
        passed = time.monotonic() - start
        rows = []
        for program in bpf_dump.programs(kernel):
            with program:
                info = program_info(kernel, program.fd)
            spent, runs = before.get(info.id, (0, 0))
            if info.run_cnt > runs:
                rows.append((info.run_time_ns - spent, info.run_cnt - runs, info))
    rows.sort(key=lambda row: -row[0])
    if as_json:
        print(json.dumps([{"id": i.id, "name": i.name, "run_time_ns": spent, "run_cnt": runs} for spent, runs, i in rows]))
        return 0
    print(f"{'ID':>8} {'NAME':<16} {'RUNS':>10} {'RUNS/S':>10} {'NS/RUN':>9} {'CPU%':>7}")
    for spent, runs, info in rows:
        share = spent / passed / 1e7
        print(f"{info.id:>8} {info.name:<16} {runs:>10} {runs / passed:>10.0f} {spent / runs:>9.0f} {share:>7.3f}")
    return 0
