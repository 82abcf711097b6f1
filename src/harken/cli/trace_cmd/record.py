"""``trace-cmd record``: trace into a file while a command runs, or until Ctrl-C.

    record [-e EVENT [-f FILTER] [-R TRIGGER]] [-p TRACER] [-g FUNCTION] [-l FUNCTION] ... [COMMAND ...]

``docs/trace_cmd.md`` has all options.  The file is readable at every moment, whatever happens to the recorder.
"""

from __future__ import annotations

import errno
import os
import sys

from ...base.errors import HarkenError, KernelError, UsageError
from ...formats import trace_dat_layout as layout
from .naming import naming
from .progress import Progress, amount
from .record_options import Setup, parse_setup
from .running import Running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...kernel.ftrace import Ftrace
    from ...session.recorder_ftrace import Outcome
    from .setup import Buffers

__all__ = ("run", "record", "check", "extra_options", "in_background_if_wanted", "watch_for_profile")

_MUCH = 64 << 20  # bytes of records whose writing takes a while
_LITTLE = 1 << 20  # bytes of records and symbols: to load zstd takes longer than all else that is done for them
_FEW = 1 << 16  # bytes of records that are looked at for the function that was asked for


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    setup = parse_setup(argv)
    if setup.help:
        from .record_usage import usage

        print(usage("record"), end="")
        return 0
    watch_for_profile(setup)
    return record(setup)


def watch_for_profile(setup: Setup) -> None:
    """Adds the events that ``--profile`` and ``-H`` need."""
    if setup.profile or setup.hooks:
        from .profile import watch_hooks, watch_tasks

        (watch_tasks if setup.profile else watch_hooks)(setup)


def check(setup: Setup) -> None:
    """Refuses command lines that would record nothing.

    Raises:
        UsageError: what is missing.
        KernelError: the command or the tasks do not exist.
    """
    if all(buffer.empty for buffer in setup.buffers):
        raise UsageError(
            "nothing to record: no event (-e) and no tracer (-p)", "'harken trace-cmd list -e' and 'list -t' show what there is"
        )
    if setup.filter_command and not setup.command:
        raise UsageError("-F is about the command, and there is none", "-P PID traces a process that runs already")
    if setup.daemonize and setup.command:
        raise UsageError("--daemonize is for recordings that go on until they are stopped, and there is a command")
    if setup.command and not _exists(setup.command[0]):  # before a recording of before makes room for one of nothing
        raise KernelError(f"cannot run '{setup.command[0]}': {os.strerror(errno.ENOENT)}", errno=errno.ENOENT)
    if setup.pids and not any(os.path.exists(f"/proc/{pid}") for pid in setup.pids):
        raise KernelError(f"there is no task {' or '.join(map(str, setup.pids))}", errno=errno.ESRCH)
    if any(buffer.tracer for buffer in setup.buffers):
        from .worst_case import check_worst_case

        check_worst_case(setup)
    if setup.compression != "any" or setup.version == 6:  # "any" is settled when it is known how much there is
        choose_compression(setup)


def _exists(program: str) -> bool:
    """Whether there is a program of that name or path."""
    folders = [""] if "/" in program else os.get_exec_path()
    return any(os.path.exists(os.path.join(folder, program)) for folder in folders)


def choose_compression(setup: Setup) -> None:
    """Settles what "any" means.

    Raises:
        UsageError: version 6 with a compression.
    """
    if setup.version == 6:
        if setup.compression not in ("any", "none"):
            raise UsageError("version 6 of the file format knows no compression")
        setup.compression = "none"
    setup.compression = usable_compression(setup.compression)


def usable_compression(wish: str) -> str:
    """The compression to write with: "any" is zstd where it can be had (trace-cmd is often built without zlib), else none."""
    if wish not in ("any", "none", "zlib", "zstd"):
        raise UsageError(f"there is no compression {wish!r}", "any, none, zlib and zstd are known")
    if wish != "any":
        return wish
    from ...formats.trace_dat_compress import codec

    return "zstd" if codec("zstd").writes else "none"


def record(setup: Setup) -> int:
    """Records as a ``Setup`` says, into a file or to another machine; returns the exit status."""
    if setup.host:
        from .network import send

        return int(send(setup))
    check(setup)
    return in_background_if_wanted(setup, _recorded)


def in_background_if_wanted(setup: Setup, work: Callable[[Setup], int]) -> int:
    """Does the work here, or in the background with ``--daemonize``."""
    if not setup.daemonize:
        return work(setup)
    from .background import PID_FILE, in_background

    def begin(ready: Callable[[], None]) -> int:
        setup.ready = ready
        return work(setup)

    return in_background(begin, PID_FILE)


def _recorded(setup: Setup) -> int:
    traced_by_tracer = any(buffer.tracer for buffer in setup.buffers)
    with Running(setup, late=not traced_by_tracer and not setup.priority) as running:
        if running.root.note and not setup.quiet:
            print(running.root.note, file=sys.stderr)
        running.announce()
        if traced_by_tracer:
            from .worst_case import is_worst_case, record_worst_case

            if is_worst_case(setup):
                record_worst_case(running)
                if setup.keep:
                    running.buffers.keep()
                return 0
        with naming(setup.output):
            outcome = _record(running)
        _tell(setup, running.buffers, outcome)
        if setup.keep:
            running.buffers.keep()
    return 0


def extra_options(setup: Setup) -> list[tuple[int, bytes]]:
    """Options of the file that the command line asks for."""
    found = []
    if setup.time_offset:
        found.append((layout.OFFSET, setup.time_offset.encode() + b"\0"))
    for hook in setup.hooks:
        found.append((layout.HOOK, hook.encode() + b"\0"))
    return found


def _record(running: Running) -> Outcome:
    from ...session.recorder_ftrace import Recorder
    from ...session.recorder_ftrace_parts import collect, kernel_types

    setup, buffers = running.setup, running.buffers
    formats = None if setup.all_formats or not buffers.formats else list(dict.fromkeys(buffers.formats))
    parts = collect(running.root, formats, extra_options(setup), buffers.traced[0][1].tracefs, _symbols(setup, buffers))
    if any(option in ("func-args", "funcgraph-args") for wanted in setup.buffers for option in wanted.options):
        parts = parts.replace(btf=kernel_types(running.root.kernel))
    if setup.priority:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(setup.priority))
        except OSError as error:
            raise KernelError(f"no real-time priority {setup.priority} (-r): {error.strerror}", errno=error.errno or 0) from None
    named = [(wanted.name, trace) for wanted, trace in buffers.traced]
    running.arm()
    others = any(wanted.name or not trace.created or trace.has("options/copy_trace_marker") for wanted, trace in buffers.traced)
    with Recorder(setup.output, parts, named, setup.temp, setup.max_kb * 1024, others=others) as recorder:
        progress = Progress([trace for _, trace in buffers.traced], lambda: recorder.size, None if not setup.quiet else False)
        interval = max(setup.interval_us // 1000, 1) if setup.interval_us else 1000
        try:
            recorder.begin(interval, late=True)
            running.launch(recorder.raw)
            command = running.command
            if not buffers.roomy:
                recorder.begin(interval)
            running.start()
            maps = {}

            def done() -> bool:
                if command is not None and setup.proc_map and not command.status:
                    from ...session.recorder_ftrace_parts import process_map

                    maps.update(process_map(recorder.kernel, (command.pid,)))
                progress.tick()
                return running.over

            recorder.run(done, min(running.patience_ms, 250 if progress.shown or setup.proc_map else 1000), running.watched)
        finally:
            buffers.stop()
            progress.end()
        options = []
        if setup.date:
            options.append((layout.DATE, date_offset(buffers.traced[0][1])))
        if setup.proc_map:
            from ...session.recorder_ftrace_parts import process_map, process_map_option

            maps.update(process_map(recorder.kernel, setup.pids))
            options.append((layout.PROCMAPS, process_map_option(maps)))
        if setup.tsc2nsec or any(buffer.clock == "tsc2nsec" for buffer in setup.buffers):
            from ...session.recorder_ftrace_parts import tsc_option

            options.append((layout.TSC2NSEC, tsc_option(recorder.kernel)))
        events = progress.counts()[0] if setup.summary and not setup.quiet else 0
        if recorder.size > _MUCH:
            progress.say(f"writing {setup.output} ...")
        if setup.compression == "any":
            setup.compression = usable_compression("any") if recorder.size + len(parts.kallsyms) >= _LITTLE else "none"
        outcome = recorder.finish(setup.version, setup.compression, options)
        progress.end()
        if setup.summary and not setup.quiet:
            size = os.path.getsize(outcome.path)
            print(f"{amount(events)} events, {amount(size, 'B')} in {outcome.path}: 'harken report' shows them", file=sys.stderr)
        return outcome


def _symbols(setup: Setup, buffers: Buffers) -> bool:
    """Whether something that is asked for shows functions of the kernel, beside the events themselves: a tracer, stacks."""
    return setup.all_formats or any(
        wanted.tracer or wanted.options or wanted.stacks or any(event.triggers for event in wanted.events) for wanted, _ in buffers.traced
    )


def date_offset(trace: Ftrace) -> bytes:
    """The DATE option: microseconds between the trace clock and 1970.

    ``per_cpu/cpu0/stats`` tells the trace clock's present time to the microsecond.
    """
    import time

    best = None
    for _ in range(5):
        before = time.time_ns()
        text = trace.stats(trace.cpus[0])
        after = time.time_ns()
        if best is None or after - before < best[0]:
            best = after - before, (before + after) // 2, text
    assert best is not None
    now = next((line.split(":")[1].strip() for line in best[2].split("\n") if line.startswith("now ts:")), "")
    seconds, _, fraction = now.partition(".")
    if not seconds.isdigit() or not fraction.isdigit():
        raise HarkenError("--date: the kernel does not tell the time of this clock", "choose another clock: -C mono")
    return f"0x{best[1] // 1000 - (int(seconds) * 1000000 + int(fraction[:6].ljust(6, '0'))):x}\0".encode()


def _tell(setup: Setup, buffers: Buffers, outcome: Outcome) -> None:
    """What trace-cmd tells at the end, and what was lost."""
    if not setup.quiet and not setup.summary:
        say_places(outcome)
    for cpu in outcome.cpus:
        if cpu.overrun or cpu.dropped:
            of = f" of buffer {cpu.buffer}" if cpu.buffer else ""
            print(f"WARNING: CPU {cpu.cpu}{of}: {cpu.overrun + cpu.dropped} events were lost", file=sys.stderr)
    if outcome.lost:
        print("HINT: a larger buffer (-b KB per CPU) or fewer events (-f) lose less", file=sys.stderr)
    graphs = [word for buffer in setup.buffers for word in buffer.graph]
    few = sum(cpu.size for cpu in outcome.cpus) <= _FEW
    if graphs and few and not setup.quiet and not _called(outcome.path, graphs):
        near = buffers.near()
        print(f"HINT: nobody called {' or '.join(graphs)}" + (f"; {near} also" if near else ""), file=sys.stderr)


def _called(path: str, words: list[str]) -> bool:
    """Whether a small recording has a call of one of some functions (calls of others may stray in while tracing is set up)."""
    from ...analysis.function_graph import ENTRY
    from ...analysis.function_graph_records import ENTRY_EVENTS, EXIT_EVENT, Decoder, steps
    from ...formats.ring_page import parse_layout
    from ...formats.trace_dat import open_trace
    from ...kernel.ftrace_events import is_regex

    if any(is_regex(word) or set(word) & set("*?[:") for word in words):
        return True
    with open_trace(path) as trace:
        found = [event for name in (*ENTRY_EVENTS, EXIT_EVENT) if (event := trace.events.find(f"ftrace:{name}")) is not None]
        decoder = Decoder(found, trace.order, trace.kernel_long)
        pages = parse_layout(trace.header_page, trace.order, trace.kernel_long)
        for buffer in trace.buffers:
            for place in buffer.cpus:
                for run in trace.chunks(place.cpu, buffer.name):
                    for step in steps(decoder, bytes(run), place.cpu, buffer.page_size, layout=pages):
                        if step.kind == ENTRY and trace.symbol(step.func) in words:
                            return True
    return False


def say_places(outcome: Outcome) -> None:
    """Where each CPU's pages are in the file, as trace-cmd tells it."""
    current = ""
    for cpu in outcome.cpus:
        if cpu.buffer != current:
            current = cpu.buffer
            print(f"\nBuffer: {current}\n")
        print(f"CPU{cpu.cpu} data recorded at offset=0x{cpu.offset:x}", file=sys.stderr)
        more = f" ({cpu.size} uncompressed)" if outcome.compressed else ""
        print(f"    {cpu.stored} bytes in size{more}", file=sys.stderr)
