"""CPython's stacks from made-up memory: every layout, cycles, damage; line tables; how Python and native frames are merged."""

from __future__ import annotations

import ast
import struct
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harken.kernel.kernel import Call, Kernel
from harken.symbols import python_stack
from harken.symbols.model import Frame
from harken.symbols.python_lines import decode, line_at
from harken.symbols.python_merge import merge
from harken.symbols.python_offsets import COOKIE, DEBUG_OFFSETS, LAYOUTS
from harken.symbols.python_runtime import Runtime, layout_of
from harken.symbols.python_stack import PythonProcess, PythonThread

RUNTIME = 0x100000
PAGE = 4096


class Memory(Kernel):
    """A process's memory, as process_vm_readv(2) shows it."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.reads = 0
        self.next = 0x200000

    def allocate(self, size: int) -> int:
        place, self.next = self.next, self.next + -(-size // 64) * 64
        return place

    def write(self, address: int, data: bytes) -> None:  # type: ignore[override]
        for offset, byte in enumerate(data):
            self.pages.setdefault((address + offset) // PAGE, bytearray(PAGE))[(address + offset) % PAGE] = byte

    def word(self, address: int, value: int) -> None:
        self.write(address, struct.pack("<Q", value & (1 << 64) - 1))

    def call(self, call: Call) -> int:
        assert call.name == "process_vm_readv"
        self.reads += 1
        pid, local, _, remote, _, _ = call.args
        address, size = struct.unpack("=QQ", remote)
        page = self.pages.get(address // PAGE)
        if pid != 42 or page is None:
            return -14
        local.at(0)[:] = page
        return int(size)


#: offsets of a version that publishes them, as if read from its table
PUBLISHED = {
    "interpreters_head": 640, "interpreter_id": 24, "interpreter_next": 8, "threads_head": 7344, "thread_next": 16, "thread_id": 152,
    "native_thread_id": 160, "current_frame": 72, "frame_size": 80, "previous": 8, "executable": 0, "instr_ptr": 56, "owner": 74,
    "tlbc_index": 76, "code_size": 208, "filename": 112, "qualname": 128, "linetable": 136, "firstlineno": 68, "co_code_adaptive": 208,
    "co_tlbc": 200, "bytes_length": 16, "bytes_data": 32, "string_state": 32, "string_length": 16, "string_ascii_size": 40,
    "string_compact_size": 56,
}  # fmt: skip
VERSIONS = {(3, 11): LAYOUTS[3, 11], (3, 12): LAYOUTS[3, 12], (3, 13): PUBLISHED, (3, 14): PUBLISHED}


class World:
    """Builds an interpreter's memory."""

    def __init__(self, version: tuple[int, int], free_threaded: bool = False) -> None:
        self.memory = Memory()
        self.offsets = VERSIONS[version]
        self.version, self.free_threaded = version, free_threaded
        self.last_state = 0
        self.interpreter = self.memory.allocate(8192)
        self.memory.word(RUNTIME + self.offsets["interpreters_head"], self.interpreter)
        self.memory.word(self.interpreter + self.offsets["interpreter_next"], 0)
        self.memory.word(self.interpreter + self.offsets["interpreter_id"], 0)

    def process(self) -> PythonProcess:
        return PythonProcess(self.memory, 42, Runtime("/bin/python", RUNTIME, self.version, self.free_threaded, self.offsets))

    def string(self, text: str) -> int:
        kind = 1 if all(ord(c) < 256 for c in text) else 2 if all(ord(c) < 65536 for c in text) else 4
        plain = text.isascii()
        address = self.memory.allocate(64 + 4 * len(text))
        self.memory.word(address + self.offsets["string_length"], len(text))
        shift = 8 if self.free_threaded and self.version >= (3, 14) else 2
        state = (kind | 1 << 3 | plain << 4) << shift
        self.memory.write(address + self.offsets["string_state"], struct.pack("<I", state))
        data = text.encode({1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[kind])
        self.memory.write(address + self.offsets["string_ascii_size" if plain else "string_compact_size"], data)
        return address

    def code(self, name: str, file: str, first: int, table: bytes) -> int:
        address = self.memory.allocate(self.offsets["code_size"] + 256)
        lines = self.memory.allocate(64 + len(table))
        self.memory.word(lines + self.offsets["bytes_length"], len(table))
        self.memory.write(lines + self.offsets["bytes_data"], table)
        for field, value in (("qualname", self.string(name)), ("filename", self.string(file)), ("linetable", lines)):
            self.memory.word(address + self.offsets[field], value)
        self.memory.write(address + self.offsets["firstlineno"], struct.pack("<i", first))
        return address

    def frame(self, code: int, previous: int, offset: int = 0, entry: bool = False, owner: int = 0, base: int = 0) -> int:
        address = self.memory.allocate(self.offsets["frame_size"] + 64)
        self.memory.word(address + self.offsets["executable"], code | (1 if self.version >= (3, 14) else 0))
        self.memory.word(address + self.offsets["previous"], previous)
        self.memory.word(address + self.offsets["instr_ptr"], (base or code + self.offsets["co_code_adaptive"]) + offset)
        self.memory.write(address + self.offsets["owner"], bytes((owner,)))
        if "is_entry" in self.offsets:
            self.memory.write(address + self.offsets["is_entry"], bytes((entry,)))
        return address

    def marked(self, previous: int) -> int:
        """The frame on the C stack by which 3.12 and later mark where a native frame begins."""
        return self.frame(0, previous, owner=3) if "is_entry" not in self.offsets else previous

    def thread(self, tid: int, frame: int, controls: int = 1) -> int:
        state = self.memory.allocate(512)
        self.memory.word(state + self.offsets["native_thread_id"], tid)
        self.memory.word(state + self.offsets["thread_next"], 0)
        current = frame
        if "cframe_frame" in self.offsets:
            chain = [self.memory.allocate(64) for _ in range(controls)]
            for place, control in enumerate(chain):
                self.memory.word(control + self.offsets["cframe_frame"], frame)
                self.memory.word(control + self.offsets["cframe_frame"] + 8, chain[place + 1] if place + 1 < controls else 0)
            current = chain[0]
        self.memory.word(state + self.offsets["current_frame"], current)
        if self.last_state:
            self.memory.word(self.last_state + self.offsets["thread_next"], state)
        else:
            self.memory.word(self.interpreter + self.offsets["threads_head"], state)
        self.last_state = state
        return state


def function() -> types.CodeType:
    namespace: dict[str, object] = {}
    exec("def f(a):\n    x = (a +\n         1)\n\n    for i in range(3):\n        x += i\n    return x\n", namespace)
    found = namespace["f"]
    assert isinstance(found, types.FunctionType)
    return found.__code__


def two_groups(world: World) -> tuple[int, types.CodeType]:
    """<module> calls outer, which through C calls näme."""
    code = function()
    inner = world.code("näme", "/srv/a.py", code.co_firstlineno, code.co_linetable)
    outer = world.code("Class.outer", "/srv/名/b.py", code.co_firstlineno, code.co_linetable)
    module = world.code("<module>", "/srv/a.py", 1, b"")
    last = world.marked(0)
    bottom = world.frame(module, last, entry=True)
    middle = world.frame(outer, bottom, offset=code.co_code.index(code.co_code[-2:]))
    return world.frame(inner, world.marked(middle), entry=True), code


@pytest.mark.parametrize("version", VERSIONS)
def test_every_layout(version: tuple[int, int]) -> None:
    world = World(version)
    top, code = two_groups(world)
    if version >= (3, 12):
        top = world.frame(world.code("called", "/srv/c.py", 7, b""), top)
    world.thread(1000, top, controls=2)
    world.thread(1001, 0)
    process = world.process()
    first, second = process.threads()
    names = [[frame.name for frame in group] for group in first.groups]
    assert names[0][-1] == "näme" and names[1] == ["Class.outer", "<module>"]
    assert (first.tid, first.interpreter, first.whole, len(first.marks)) == (1000, 0, True, 2)
    assert second == PythonThread(1001, 0, ())
    outer = first.groups[1][0]
    assert (outer.file, outer.kind) == ("/srv/名/b.py", "python")
    assert outer.line == line_of(code, code.co_code.index(code.co_code[-2:]))
    assert process.thread(1000) == first.replace(interpreter=-1)  # found again by its address
    assert process.thread(5) is None
    assert [frame.name for frame in process.threads(limit=1)[0].frames] == [first.frames[0].name]
    assert not process.threads(limit=1)[0].whole


def line_of(code: types.CodeType, offset: int) -> int:
    return next(line or 0 for start, end, line in code.co_lines() if start <= offset < end)


def test_free_threaded_code_has_a_copy_per_thread() -> None:
    world = World((3, 14), free_threaded=True)
    code = function()
    address = world.code("f", "/f.py", code.co_firstlineno, code.co_linetable)
    copies = world.memory.allocate(64)
    copy = world.memory.allocate(512)
    world.memory.word(address + PUBLISHED["co_tlbc"], copies)
    world.memory.word(copies, 2)
    world.memory.word(copies + 16, copy)
    frame = world.frame(address, world.marked(0), offset=len(code.co_code) - 2, base=copy)
    world.memory.write(frame + PUBLISHED["tlbc_index"], struct.pack("<i", 1))
    world.thread(7, frame)
    (thread,) = world.process().threads()
    assert [(f.name, f.line) for f in thread.frames] == [("f", line_of(code, len(code.co_code) - 2))]


def test_a_child_of_fork_may_have_its_parents_number() -> None:
    world = World((3, 12))
    top, _ = two_groups(world)
    world.thread(999, top)
    found = world.process().thread(42)
    assert found is not None and len(found.frames) == 3


def test_cycles_and_damage_end() -> None:
    for version in VERSIONS:
        world = World(version)
        top, _ = two_groups(world)
        state = world.thread(1000, top, controls=2)
        process = world.process()
        good = process.threads()[0]
        world.memory.word(top + world.offsets["previous"], top)  # the stack is a circle
        assert len(process.threads(limit=100)[0].frames) <= 100
        world.memory.word(top + world.offsets["previous"], 0x123)
        assert [frame.name for frame in process.threads()[0].frames] == [good.frames[0].name]
        world.memory.word(top + world.offsets["executable"], 0x123000)  # no code object
        assert process.threads()[0].frames == [] and not process.threads()[0].whole
        world.memory.word(state + world.offsets["thread_next"], state)  # threads are a circle
        world.memory.word(state + world.offsets["current_frame"], 0)
        before, python_stack._MAX_THREADS = python_stack._MAX_THREADS, 50
        try:
            assert len(process.threads()) == 50
            world.memory.word(world.interpreter + world.offsets["interpreter_next"], world.interpreter)
            assert len(process.threads()) == 50
        finally:
            python_stack._MAX_THREADS = before
        world.memory.pages.clear()
        assert process.threads() == [] and process.thread(1000) is None


def test_a_string_that_is_none_ends_the_stack() -> None:
    world = World((3, 12))
    code = world.code("f", "/f.py", 1, b"")
    world.memory.word(code + world.offsets["qualname"], code)
    world.thread(1, world.frame(code, 0))
    assert world.process().threads()[0].frames == []


def test_code_objects_are_read_once_and_again_if_replaced() -> None:
    world = World((3, 12))
    code = world.code("f", "/f.py", 1, b"")
    world.thread(1, world.frame(code, 0))
    process = world.process()
    assert process.threads()[0].frames[0].name == "f"
    world.memory.word(code + world.offsets["qualname"], world.string("g"))
    assert process.threads()[0].frames[0].name == "g"


# -- versions


def test_published_offsets_are_taken_from_the_table() -> None:
    for version, fields in DEBUG_OFFSETS.items():
        table = bytearray(1024)
        table[:8] = COOKIE
        for number, (name, place) in enumerate(fields.items()):
            struct.pack_into("<Q", table, place, 0 if name == "free_threaded" else 8 * number)
        found = layout_of(version, bytes(table))
        assert found is not None and not found[1]
        assert found[0]["string_compact_size"] == found[0]["string_ascii_size"] + 16
        assert set(found[0]) >= set(VERSIONS[3, 12]) - {"cframe_frame"}
        struct.pack_into("<Q", table, fields["frame_size"], 1 << 40)
        assert layout_of(version, bytes(table)) is None
        assert layout_of(version, b"something else" + bytes(1024)) is None
        assert layout_of(version, bytes(table[:100])) is None
    assert layout_of((3, 10), b"") is None and layout_of((4, 0), COOKIE + bytes(1024)) is None


# -- lines


def codes(code: types.CodeType):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


@pytest.mark.parametrize("module", [ast, python_stack, pytest, types])
def test_lines_are_those_that_python_computes(module: types.ModuleType) -> None:
    assert module.__file__ is not None
    with open(module.__file__, encoding="utf-8") as file:
        whole = compile(file.read(), module.__file__, "exec")
    count = 0
    for code in codes(whole):
        starts, lines = decode(code.co_linetable, code.co_firstlineno)
        for start, end, line in code.co_lines():
            for offset in {start, end - 2}:
                count += 1
                assert line_at(starts, lines, offset) == (line or 0)
    assert count > 10


def test_lines_before_the_first_instruction_are_the_first() -> None:
    code = function()
    assert line_at(*decode(code.co_linetable, code.co_firstlineno), -2) == code.co_firstlineno
    assert line_at([], [], 4) == 0


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_damaged_line_tables_give_something(table: bytes) -> None:
    starts, lines = decode(table, 1)
    assert len(starts) == len(lines) <= len(table)


# -- merging

LOOP = "_PyEval_EvalFrameDefault"


def native(*names: str) -> list[Frame]:
    return [Frame(0x1000 + place, name) for place, name in enumerate(names)]


def group(*names: str) -> tuple[Frame, ...]:
    return tuple(Frame(0, name, kind="python") for name in names)


def names(frames: list[Frame]) -> list[str]:
    return [frame.name for frame in frames]


STACK = native("add", LOOP, "sort", LOOP + ".cold", "call", LOOP, "main")
GROUPS = (group("a"), group("b", "c"), group("d"))


def test_groups_take_the_place_of_the_loop() -> None:
    assert names(merge(STACK, PythonThread(1, 0, GROUPS))) == ["add", "a", "sort", "b", "c", "call", "d", "main"]


def test_differences_show_at_the_innermost_end() -> None:
    assert names(merge(STACK, PythonThread(1, 0, GROUPS[1:]))) == ["add", LOOP, "sort", "b", "c", "call", "d", "main"]
    assert names(merge(STACK[2:], PythonThread(1, 0, GROUPS))) == ["sort", "b", "c", "call", "d", "main"]
    assert names(merge(STACK, PythonThread(1, 0, ((), *GROUPS[1:])))) == ["add", LOOP, "sort", "b", "c", "call", "d", "main"]
    assert merge(STACK, PythonThread(1, 0, ())) == STACK


def test_a_stack_that_is_cut_off_is_completed() -> None:
    assert names(merge(STACK[:4], PythonThread(1, 0, GROUPS), whole=False)) == ["add", "a", "sort", "b", "c", "d"]


def test_marks_on_the_stack_need_no_names() -> None:
    stripped = native("", "", "sort", "", "call", "", "main")
    pointers = (100, 200, 300, 400, 500, 600, 700)
    thread = PythonThread(1, 0, GROUPS, True, (250, 480, 610))
    assert names(merge(stripped, thread, True, pointers)) == ["", "a", "sort", "b", "c", "call", "d", "main"]
    # a mark that lies on no frame: the state is newer than the stack
    newer = PythonThread(1, 0, (group("new"), *GROUPS), True, (50, 250, 480, 610))
    assert names(merge(stripped, newer, True, pointers)) == ["", "a", "sort", "b", "c", "call", "d", "main"]
    # cut off: the groups behind come last
    assert names(merge(stripped[:3], thread, False, pointers[:3])) == ["", "a", "sort", "b", "c", "d"]


def test_inlined_frames_belong_to_what_they_were_inlined_into() -> None:
    stack = [Frame(1, "x", inlined=True), Frame(1, LOOP), Frame(2, "main")]
    assert names(merge(stack, PythonThread(1, 0, (group("a"),)))) == ["a", "main"]


def test_handlers_of_a_tail_calling_loop_are_part_of_it() -> None:
    stack = native("add", "_TAIL_CALL_BINARY_OP", LOOP, "main")
    assert names(merge(stack, PythonThread(1, 0, (group("a"),)))) == ["add", "a", "main"]


def test_a_loop_without_symbols_is_known_by_its_address() -> None:
    stack = [Frame(0x10, ""), Frame(0x1234, ""), Frame(0x20, "main")]
    assert names(merge(stack, PythonThread(1, 0, (group("a"),)), ranges=((0x1000, 0x2000),))) == ["", "a", "main"]
