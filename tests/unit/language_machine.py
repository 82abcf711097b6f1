"""A made-up machine for the language's tests: compiles against a small catalogue and runs in the interpreter of BPF programs."""

from __future__ import annotations

from typing import Any

from harken.base.diagnostics import Diagnostic, Source
from harken.base.errors import HarkenError, SourceError
from harken.compiler.target import EVERYTHING
from harken.compiler.unit import RING, Unit
from harken.formats import event_format
from harken.formats.btf import Btf
from harken.kernel.features import Answer
from harken.languages.bpftrace.compile import Options, compile
from harken.render.printf import render
from harken.render.tables import Layout
from harken.render.values import row_text
from harken.testing.btf_builder import BtfBuilder
from harken.testing.fake_kernel import FakeKernel
from harken.testing.interpreter import Interpreter

TASK = 0xFFFF_8000_0000_1000
OPENAT = (
    "name: sys_enter_openat\nID: 700\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
    "\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;\n\tfield:int dfd;\toffset:16;\tsize:8;\tsigned:0;\n"
    '\tfield:const char * filename;\toffset:24;\tsize:8;\tsigned:0;\n\nprint fmt: "%x", REC->dfd\n'
)
SWITCH = (
    "name: sched_switch\nID: 300\nformat:\n\tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;\n"
    "\tfield:int prev_prio;\toffset:24;\tsize:4;\tsigned:1;\n"
    '\tfield:__data_loc char[] note;\toffset:28;\tsize:4;\tsigned:0;\n\nprint fmt: ""\n'
)
EVENTS = {("syscalls", "sys_enter_openat"): OPENAT, ("sched", "sched_switch"): SWITCH}


def kernel_types() -> Btf:
    """struct task_struct { int pid; struct mm *mm; char comm[16]; unsigned flags:3, rest:5; u16 ports[4]; } and an enum."""
    b = BtfBuilder()
    integer, unsigned = b.integer("int", 4, signed=True), b.integer("unsigned int", 4)
    char, short = b.integer("char", 1, signed=True), b.integer("unsigned short", 2)
    mm = b.struct("mm", 16, [("users", integer, 0), ("owner", b.next_id + 1, 64)])
    b.ptr(mm + 2)
    task_id = b.next_id
    assert task_id == mm + 2
    b.bitfields(
        "task_struct",
        48,
        [
            ("pid", integer, 0, 0),
            ("mm", task_id + 1, 64, 0),
            ("comm", task_id + 2, 128, 0),
            ("flags", unsigned, 256, 3),
            ("rest", unsigned, 259, 5),
            ("ports", task_id + 3, 288, 0),
        ],
    )
    b.ptr(mm)
    b.array(char, 16, integer)
    b.array(short, 4, integer)
    b.enum("state", 4, {"RUNNING": 0, "SLEEPING": 1})
    return Btf(b.build())


class Features:
    def answer(self, name: str) -> Answer:
        return Answer("yes")

    def has(self, name: str) -> bool:
        return True

    def target(self) -> tuple[str, frozenset[str]]:
        return "x86_64", EVERYTHING


class Catalogue:
    pid = -1

    def __init__(self) -> None:
        self.kernel = FakeKernel(files={"/sys/devices/system/cpu/possible": "0", "/proc/modules": ""})
        self.features = Features()
        self.btf = kernel_types()

    def tracepoints(self) -> list[tuple[str, str]]:
        return list(EVENTS)

    def has_tracepoint(self, category: str, name: str) -> bool:
        return (category, name) in EVENTS

    def tracepoint(self, category: str, name: str) -> Any:
        return event_format.parse(EVENTS[category, name], category)


def unit(program: str, params: tuple[str, ...] = (), **options: Any) -> Unit:
    return compile(Source("stdin", program), Catalogue(), Options(params=params, **options))  # type: ignore[arg-type]


def problems(program: str, params: tuple[str, ...] = (), **options: Any) -> list[Diagnostic]:
    """The diagnostics of a program that must not compile."""
    try:
        unit(program, params, **options)
    except SourceError as error:
        return [one for one in error.diagnostics if one.severity == "error"]
    except HarkenError as error:
        return [Diagnostic("error", error.message, None, error.hint)]
    raise AssertionError("it compiled")


class Ran:
    """What a program did: ``text`` of its printf and print actions, all ``actions``, and its maps."""

    def __init__(self, unit: Unit, machine: Interpreter) -> None:
        self.unit, self.machine = unit, machine
        self.text = ""
        self.actions: list[tuple[Any, ...]] = []
        ring = machine.maps.get(RING)
        for record in ring.records if ring is not None else ():
            event = unit.events[int.from_bytes(record[:8], "little")]
            row = event.schema.row(record)
            self.actions.append((event.action, *event.args, *row))
            if event.action == "printf":
                self.text += render(event.args[0], event.schema, record)
            elif event.action == "print_value":
                self.text += row_text(event.schema)(row) + "\n"

    def map(self, name: str) -> dict[Any, Any]:
        """A map's contents as the schemas decode them; single fields are bare."""
        table = next(one for one in self.unit.tables if one.name == name)
        found = {}
        for key, region in self.machine.maps[table.map].values.items():
            left = table.key.row(key) if table.key.fields else ()
            right = table.value.row(bytes(self.machine.regions[region].data))
            found[left[0] if len(left) == 1 else left] = right[0] if len(right) == 1 else right
        return found

    def layout(self, name: str) -> Layout:
        table = next(one for one in self.unit.tables if one.name == name)
        return Layout(table.name, table.kind, table.key, table.value)


def run(
    program: str, params: tuple[str, ...] = (), ctx: bytes = b"", memory: dict[int, bytes] | None = None, times: int = 1, **options: Any
) -> Ran:
    """Compiles and runs every program of a text, each ``times`` times."""
    made = unit(program, params, **options)
    machine = Interpreter(made.spec)
    machine.helpers["get_current_task"] = lambda *_: TASK
    machine.helpers["ktime_get_boot_ns"] = lambda machine, *_: 5_000_000_000
    machine.helpers["map_lookup_percpu_elem"] = lambda machine, handle, key, *_: machine.helpers["map_lookup_elem"](machine, handle, key)
    machine.memory = dict(memory or {})
    for spec in made.spec.programs:
        for _ in range(times):
            machine.run(spec.name, ctx)
    return Ran(made, machine)
