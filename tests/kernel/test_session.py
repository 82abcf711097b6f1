"""Sessions on the real kernel, with programs assembled by hand."""

from __future__ import annotations

import os
import signal
import struct
import threading
import time

import pytest

from harken.abi import bpf as abi
from harken.base.errors import HarkenError
from harken.base.schema import Field, Schema
from harken.compiler.unit import LOSS, RING, Event, Table, Unit
from harken.formats.insn import R0, R1, R2, R3, R4, R10, alu64, call, encode, exit_, jmp, ld_imm64, mov64, st, stx
from harken.formats.spec import AttachSpec, MapSpec, ProgramSpec, Reloc, Spec
from harken.kernel.kernel import live
from harken.render.text import Writer
from harken.session.command import Command
from harken.session.output import TextSink
from harken.session.output_json import JsonSink
from harken.session.session import TraceSession
from harken.session.sink import Collect

pytestmark = pytest.mark.kernel

NUMBER = Schema("", 16, (Field("arg0", 8, "q"),))
EMPTY = Schema("", 8, ())
Code = list[tuple[object, str]]


def emit(event: int, number: int | None = None) -> list[object]:
    """Instructions that put a record with at most one number into the ring."""
    code: list[object] = [st(8, R10, event, -16)]
    size = 8
    if number is not None:
        code.append(st(8, R10, number, -8))
        size = 16
    code += [("map", R1, RING), mov64(R2, R10), alu64("add", R2, imm=-16), mov64(R3, imm=size), mov64(R4, imm=0), call("ringbuf_output")]
    return code


def program(name: str, *code: object, place: AttachSpec | None = None, type: int = abi.BPF_PROG_TYPE_RAW_TRACEPOINT) -> ProgramSpec:
    insns, relocs, slot = [], [], 0
    for item in [*code, mov64(R0, imm=0), exit_()]:
        assert isinstance(item, tuple)
        if item[0] == "map":
            relocs.append(Reloc(slot, "map", str(item[2])))
            item = ld_imm64(int(item[1]), 0, 1)
        insns.append(item)
        slot += 2 if item[0] == 0x18 else 1
    return ProgramSpec(name, type, encode(insns), tuple(relocs), () if place is None else (place,))


def unit(*programs: ProgramSpec, events: tuple[Event, ...] = (), ring: int = 1 << 16, **more: object) -> Unit:
    maps = (
        MapSpec(RING, abi.BPF_MAP_TYPE_RINGBUF, 0, 0, ring),
        MapSpec(LOSS, abi.BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, 4),
        MapSpec("AT_x", abi.BPF_MAP_TYPE_HASH, 8, 8, 16, contents=((struct.pack("=q", 1), struct.pack("=q", 5)),)),
    )
    table = Table("@x", "AT_x", "value", Schema("k", 8, (Field("k0", 0, "q"),)), Schema("v", 8, (Field("v", 0, "q"),)))
    runs = tuple((p.name.partition("_")[0], p.name) for p in programs if p.name.startswith(("begin", "end")))
    values: dict[str, object] = {"losses": (("map", "@x"),), "tables": (table,), "runs": runs, **more}
    return Unit(Spec(maps, programs), events, **values)  # type: ignore[arg-type]


def shown(subject: Unit, json: bool = False, **options: object) -> tuple[str, TraceSession]:
    """What a session of ``subject`` puts out."""
    reader, writer = os.pipe()
    notices: list[str] = []
    sink = JsonSink(Writer(writer)) if json else TextSink(Writer(writer), notices.append)
    try:
        with TraceSession(subject, live(), sink, **options) as session:  # type: ignore[arg-type]
            session.start()
            session.run()
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb") as file:
        return file.read().decode(), session


PRINTF = Event("printf", ("n=%d\n",), NUMBER, "stdin:1:9-20")


def test_begin_end_and_final_maps() -> None:
    text, session = shown(unit(program("begin_1", *emit(0, 7)), program("end_1", *emit(0, -1)), events=(PRINTF,)))
    assert text == "n=7\nn=-1\n\n\n@x[1]: 5\n"
    assert session.ended == "complete"
    assert session.losses == ()


def test_json() -> None:
    text, _ = shown(unit(program("begin_1", *emit(0, 7)), events=(PRINTF,)), json=True)
    assert text.splitlines() == [
        '{"type": "attached_probes", "count": 1, "data": {"probes": 1}}',
        '{"type": "printf", "data": "n=7\\n"}',
        '{"type": "map", "data": {"@x": {"1": 5}}}',
    ]


def test_nothing_after_exit_counts_but_end_runs() -> None:
    code = [*emit(0, 1), *emit(1), *emit(0, 2), *emit(2), *emit(1)]
    events = (PRINTF, Event("exit", (3,), EMPTY), Event("clear", ("@x",), EMPTY))
    text, session = shown(unit(program("begin_1", *code), program("end_1", *emit(0, 9)), events=events))
    assert text == "n=1\nn=9\n\n\n@x[1]: 5\n"
    assert (session.ended, session.exit_code) == ("exit", 3)


def test_map_actions_happen_in_order() -> None:
    events = (
        Event("print_map", ("@x", 0, 0), EMPTY),
        Event("zero", ("@x",), EMPTY),
        Event("clear", ("@x",), EMPTY),
        PRINTF,
        Event("print_value", (), NUMBER),
    )
    code = [*emit(0), *emit(3, 1), *emit(1), *emit(0), *emit(2), *emit(0), *emit(4, -8)]
    text, _ = shown(unit(program("begin_1", *code), events=events))
    assert text == "@x[1]: 5\nn=1\n@x[1]: 0\n-8\n\n\n"


def test_join_time_and_cat(tmp_path: object) -> None:
    path = f"{tmp_path}/file"
    with open(path, "w") as file:
        file.write("x" * 5000)
    events = (
        Event("cat", (path,), EMPTY),
        Event("time", ("%%|\n",), EMPTY),
        Event("join", (",",), Schema("", 24, (Field("a", 8, "q"), Field("b", 16, "q")))),
        Event("cat", (path + "%d",), NUMBER),
    )
    code = [*emit(0), *emit(1), *emit(3, 1)]
    text, _ = shown(unit(program("begin_1", *code), events=events, config=(("max_cat_bytes", 100),)))
    assert text == "x" * 100 + "%|\n" + "\n\n@x[1]: 5\n"


def test_records_that_nobody_understands_are_counted() -> None:
    text, session = shown(unit(program("begin_1", *emit(0, 1), *emit(77), *emit(0, 2)), events=(PRINTF,)))
    assert text.startswith("n=1\nn=2\n")
    assert [(loss.kind, loss.count) for loss in session.losses] == [("unread", 1)]


def test_losses_of_programs_are_told() -> None:
    code = [
        st(4, R10, 0, -4),
        ("map", R1, LOSS),
        mov64(R2, R10),
        alu64("add", R2, imm=-4),
        call("map_lookup_elem"),
        jmp("eq", R0, imm=0, off=2),
        mov64(R1, imm=4),
        stx(8, R0, R1, 0),
    ]
    _, session = shown(unit(program("begin_1", *code)))
    assert [(loss.kind, loss.subject, loss.count) for loss in session.losses] == [("map", "@x", 4)]


def waiting() -> Unit:
    """A program that does nothing until it is stopped: BEGIN, and a duration keeps it alive."""
    return unit(program("begin_1", *emit(0, 1)), events=(PRINTF,))


def test_duration_ends_a_session() -> None:
    started = time.monotonic()
    text, session = shown(waiting(), duration=0.2)
    assert session.ended == "duration" and text.startswith("n=1\n")
    assert time.monotonic() - started >= 0.2


def test_stop_from_another_thread() -> None:
    sink = Collect()
    with TraceSession(waiting(), live(), sink, duration=60) as session:
        session.start()
        timer = threading.Timer(0.1, session.stop)
        timer.start()
        session.run()
        timer.join()
    assert session.ended == "stop"
    assert sink.items == [("printf", (1,))]
    assert sink.final == {"@x": [((1,), (5,))]}


def test_stop_from_a_signal_handler() -> None:
    with TraceSession(waiting(), live(), Collect(), duration=60) as session:
        before = signal.signal(signal.SIGALRM, lambda *_: session.stop())
        try:
            session.start()
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            session.run()
        finally:
            signal.signal(signal.SIGALRM, before)
    assert session.ended == "stop"


def test_a_command_is_held_until_it_is_released(tmp_path: object) -> None:
    path = f"{tmp_path}/ran"
    kernel = live()
    command = Command(kernel, ("touch", path))
    try:
        time.sleep(0.1)
        assert not os.path.exists(path)
        with TraceSession(waiting(), kernel, Collect(), command=command) as session:
            session.start()
            session.run()
        assert session.ended == "command"
        assert os.path.exists(path)
        assert command.status == 0
    finally:
        command.close()


def test_a_held_command_goes_with_the_session() -> None:
    command = Command(live(), ("sleep", "100"))
    command.close()
    with pytest.raises(ProcessLookupError):
        os.kill(command.pid, 0)


def test_a_held_command_dies_with_harken(tmp_path: object) -> None:
    mark = f"{tmp_path}/ran"
    reader, writer = os.pipe()
    middle = os.fork()
    if not middle:
        command = Command(live(), ("touch", mark))
        os.write(writer, str(command.pid).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(middle, 0)
    os.close(writer)
    held = int(os.read(reader, 16))
    os.close(reader)
    for _ in range(500):
        try:
            with open(f"/proc/{held}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] in "ZX":  # dead; whose child it now is may be slow to reap
                    break
        except OSError:
            break
        time.sleep(0.01)
    else:
        pytest.fail("the command is still there")
    assert not os.path.exists(mark)


@pytest.mark.parametrize("words", [("/nonexistent/program",), ("/etc/passwd",), ()])
def test_a_command_that_cannot_run(words: tuple[str, ...]) -> None:
    with pytest.raises(HarkenError):
        Command(live(), words)


def test_the_end_of_a_process_ends_its_session() -> None:
    command = Command(live(), ("sleep", "0.1"))
    command.release()
    with TraceSession(waiting(), live(), Collect(), pid=command.pid, duration=60) as session:
        session.start()
        session.run()
    command.close()
    assert session.ended == "process"


def test_a_process_that_does_not_exist() -> None:
    with TraceSession(waiting(), live(), Collect(), pid=4194304) as session, pytest.raises(HarkenError, match="no process"):
        session.start()


def test_an_error_leaves_nothing_open() -> None:
    broken = unit(program("begin_1", mov64(R1, R4)))  # r4 is not initialised
    with pytest.raises(HarkenError), TraceSession(broken, live(), Collect()) as session:
        session.start()


@pytest.mark.parametrize("json", [False, True])
def test_many_records_of_one_length(json: bool) -> None:
    """The bulk path: a column of equal records, one with another event among them, one of another length behind them."""
    code: list[object] = []
    for number in range(200):
        code += emit(1 if number == 150 else 0, number)
    code += [*emit(2), *emit(0, -1)]
    events = (PRINTF, Event("print_value", (), NUMBER), Event("time", ("%%\n",), EMPTY))
    text, session = shown(unit(program("begin_1", *code), events=events), json=json)
    lines = [f"n={number}" if number != 150 else "150" for number in range(200)] + ["%", "n=-1"]
    if json:
        found = [line.split('"data": ')[1].strip('"}').removesuffix("\\n") for line in text.splitlines()[1:-1]]
    else:
        found = text.split("\n\n\n")[0].split("\n")
    assert found == lines
    assert session.losses == ()
