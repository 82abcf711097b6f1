"""Names for stacks and symbols in a session: how they are shown, what library users get, and what is known of processes that are gone."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from harken.base.errors import KernelError
from harken.base.schema import Field, Schema
from harken.compiler.unit import Event, Table, Unit
from harken.formats.spec import Spec
from harken.kernel.sampling import MappingEvent, TaskEvent
from harken.render.stacks import bound, build_ids, split, text_of_stack, text_of_symbol
from harken.session import mappings as mappings_module
from harken.session.events import EventSink
from harken.session.mappings import Follower
from harken.session.output import TextSink
from harken.session.output_json import JsonSink
from harken.session.stacks import SessionSymbols, Stack, noting, symbols_for, value_of
from harken.session.tables import plain_rows
from harken.symbols.model import Frame
from harken.symbols.processes import Processes
from harken.testing.fake_kernel import FakeKernel


class Names:
    """Names by address."""

    known = {
        0x10: Frame(0x10, "vfs_read", 3, "[kernel.kallsyms]", kind="kernel"),
        0x20: Frame(0x20, "ext4_read", 0, "[ext4]", kind="kernel"),
        0x30: Frame(0x30, "bpf_prog_1", 7, "[bpf]", kind="kernel"),
        0x401: Frame(0x401, "main", 17, "/bin/x", "/src/x.c", 12),
        0x402: Frame(0x402, "helper", 0, "/bin/x", "/src/h.c", 3, True),
        0x403: Frame(0x403, module="/bin/x"),
    }

    def __init__(self) -> None:
        self.pids: list[int] = []

    def kernel(self, address: int) -> Frame:
        return self.known.get(address, Frame(address))

    def user(self, pid: int, address: int) -> Frame:
        self.pids.append(pid)
        return self.kernel(address)

    def kernel_stack(self, addresses: Any) -> list[Frame]:
        return [self.kernel(address) for address in addresses]

    def user_stack(self, pid: int, addresses: Any) -> list[Frame]:
        self.pids.append(pid)
        return [self.kernel(address) for address in addresses]

    def seen(self, pid: int) -> None:
        self.pids.append(-pid)


def stack(role: str, mode: str = "bpftrace", limit: int = 6, offset: int = 0) -> Field:
    size = (8 if role == "ustack" else 0) + (32 if mode == "build_id" else 8) * limit
    return Field("arg0", offset, "p", size, role, detail=(mode, limit))


def named(field: Field, names: Names | None = None) -> Field:
    return bound(Schema("", 0, (field,)), names or Names()).fields[0]


def words(*numbers: int, size: int = 6) -> bytes:
    return struct.pack(f"={len(numbers)}Q", *numbers).ljust(size * 8, b"\0")


# -- how they are shown


def test_kernel_stacks() -> None:
    raw = words(0x10, 0x20, 0x30, 0x99)
    plain = "\n        vfs_read+3\n        ext4_read+0 [ext4]\n        bpf_prog_1+7\n        0x99\n"
    assert text_of_stack(named(stack("kstack")))(raw) == plain
    assert text_of_stack(named(stack("kstack")), 4)(raw) == plain.replace("        ", "    ")
    perf = "\n\t10 vfs_read+3\n\t20 ext4_read+0 [ext4]\n\t30 bpf_prog_1+7\n\t99 0x99\n"
    assert text_of_stack(named(stack("kstack", "perf")))(raw) == perf
    assert text_of_stack(named(stack("kstack", "raw")))(raw) == "\n10\n20\n30\n99\n"


def test_lines_of_kernel_stacks_are_made_once() -> None:
    class Counted(Names):
        asked = 0

        def kernel_stack(self, addresses: Any) -> list[Frame]:
            self.asked += len(addresses)
            return super().kernel_stack(addresses)

    names = Counted()
    show = text_of_stack(named(stack("kstack", limit=200), names))
    for _ in range(3):
        assert show(words(0x20, 0x10, 0x30, size=200)) == "\n        ext4_read+0 [ext4]\n        vfs_read+3\n        bpf_prog_1+7\n"
    assert names.asked == 3 + 1 + 1
    assert show(b"") == "\n" and show(words(0x10)) == "\n        vfs_read+3\n"
    show(words(*[0x10] * 127, size=200))
    assert names.asked == 5 + 1 + 127


def test_user_stacks() -> None:
    names = Names()
    raw = words(7, 0x402, 0x401, 0x403, 0x99, size=7)
    text = "\n        [inlined] helper@/src/h.c:3\n        main+17@/src/x.c:12\n        0x403\n        0x99\n"
    assert text_of_stack(named(stack("ustack"), names))(raw) == text and names.pids == [7]
    perf = "\n\t402 helper (inlined)\n\t401 main+17 (/bin/x)\n\t403 0x403 (/bin/x)\n\t99 0x99 ([unknown])\n"
    assert text_of_stack(named(stack("ustack", "perf"), names))(raw) == perf


def test_build_ids() -> None:
    raw = struct.pack("=Q", 7) + struct.pack("=i20sQ", 1, b"\xab" * 20, 5) + struct.pack("=i20sQ", 2, b"", 0x401) + bytes(64)
    assert build_ids(raw) == [("ab" * 20, 5), ("", 0x401)]
    assert text_of_stack(named(stack("ustack", "build_id")))(raw) == f"\n{'ab' * 20} 0x05\n401\n"
    (got,) = value_of(Schema("", 0, (named(stack("ustack", "build_id")),)))((raw,))  # type: ignore[misc]
    assert got.pid == 7 and [(frame.build_id, frame.address) for frame in got] == [("ab" * 20, 5), ("", 0x401)]


def test_addresses_end_where_only_zeros_follow() -> None:
    field = stack("ustack")
    assert split(field, words(7, 1, 0, 3, size=7)) == (7, (1, 0, 3))
    assert split(field, words(7, 0x1200)) == (7, (0x1200,))
    assert split(field, b"") == (-1, ()) and split(field, words(7, size=1)) == (7, ())
    assert split(stack("kstack"), words(1, 2, 3, 4, 5, 6)) == (-1, (1, 2, 3, 4, 5, 6))


def test_symbols() -> None:
    kernel, user = Field("a", 0, "Q", role="ksym"), Field("b", 0, "r", 1, "usym", Schema("usym", 16, (Field("addr", 0, "Q"),)))
    assert text_of_symbol(named(kernel))(0x10) == "vfs_read" and text_of_symbol(named(kernel))(0x99) == "0x99"
    assert text_of_symbol(named(user))((0x401, 7)) == "main" and text_of_symbol(named(user))((0x99, 7)) == "0x99"
    assert text_of_symbol(kernel)(0x10) == "0x10" and text_of_symbol(user)((0x10, 7)) == "0x10"


def event(*fields: Field, action: str = "print_value", args: tuple[Any, ...] = ()) -> Event:
    return Event(action, args, Schema(action, 64, fields))


def tailed(role: str) -> Field:
    return Field("arg0", 8, "w", role=role, detail=("bpftrace", 6))


RECORD = struct.pack("=QI4x", 0, 32 << 16 | 16) + words(7, 0x401, 0x403, 0x99, size=4)


class Lines:
    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, parts: list[bytes]) -> None:
        self.parts += parts

    def flush(self) -> None:
        pass


def test_sinks() -> None:
    names: Any = Names()
    one = event(tailed("ustack"))
    one = one.replace(schema=bound(one.schema, names))
    text = "\n        main+17@/src/x.c:12\n        0x403\n        0x99\n"
    assert TextSink(Lines()).value(one)(RECORD, 0) == text.encode() + b"\n"  # type: ignore[arg-type]
    quoted = text.replace("\n", "\\n")
    assert JsonSink(Lines()).value(one)(RECORD, 0) == f'{{"type": "value", "data": "{quoted}"}}\n'.encode()  # type: ignore[arg-type]
    names.pids.clear()
    got: Any = EventSink(10).value(one)(RECORD, 0)
    assert names.pids == [-7]  # noted when it came, asked for when it is looked at
    assert got.text == text + "\n"
    (value,) = got.values
    assert value == (Names.known[0x401], Names.known[0x403], Frame(0x99)) and value.pid == 7 and got.arg0 is value


def test_stacks_of_two_processes_differ() -> None:
    frames = [Frame(1, "f")]
    assert Stack(frames, 1) != Stack(frames, 2) and Stack(frames, 1) == Stack(frames, 1) and Stack(frames) == tuple(frames)
    assert len({Stack(frames, 1), Stack(frames, 2), Stack(frames, 1)}) == 2
    assert Stack([], 1) != Stack([], 2)


def test_tables_for_library_users() -> None:
    key = bound(Schema("key", 64, (stack("ustack"), Field("n", 56, "Q"))), Names())
    table = Table("@", "AT_", "count", key, Schema("value", 8, (Field("count", 0, "Q"),)), True)
    ((got, count),) = plain_rows(table, [((words(7, 0x401, size=7), 5), 3)])
    assert count == 3 and got == (Stack([Names.known[0x401]], 7), 5)
    value = bound(Schema("value", 8, (Field("v", 0, "Q", role="ksym"),)), Names())
    scalar = Table("@", "AT_", "value", Schema("key", 0, ()), value)
    assert plain_rows(scalar, [((), (0x10,))]) == [((), Names.known[0x10])]


def test_nested_values() -> None:
    names: Any = Names()
    usym = Field("1", 56, "r", 1, "usym", Schema("usym", 16, (Field("addr", 0, "Q"), Field("pid", 8, "I"))))
    pair = Schema("tuple", 72, (stack("ustack"), usym))
    schema = bound(Schema("", 80, (Field("arg0", 8, "r", 1, "tuple", pair),)), names)
    row = ((words(7, 0x401, size=7), (0x10, 9)),)
    values, note = value_of(schema), noting(schema)
    assert values is not None and note is not None
    ((user, symbol),) = values(row)
    assert user == Stack([Names.known[0x401]], 7) and (symbol.name, symbol.pid) == ("vfs_read", 9)
    names.pids.clear()
    note(row)
    assert names.pids == [-7, -9]
    plain = Schema("", 16, (Field("a", 8, "q"),))
    assert value_of(plain) is None and noting(plain) is None and bound(plain, names) is plain


def test_programs_without_stacks_have_no_symbols() -> None:
    kernel = FakeKernel()
    assert symbols_for(Unit(Spec(), (event(Field("a", 8, "q")),)), kernel, {}) is None
    only_kernel = symbols_for(Unit(Spec(), (event(tailed("kstack")),)), kernel, {})
    assert only_kernel is not None
    only_kernel.follow(-1, [])
    assert only_kernel.follower is None


# -- processes


A = "400000-401000 r--p 00000000 fd:01 7 /bin/a\n401000-402000 r-xp 00001000 fd:01 7 /bin/a\n"
B = "7f0000-7f1000 r-xp 00002000 fd:01 8 /usr/lib/b.so\n"


def mapped(pid: int, start: int, path: str, time: int = 1, executable: bool = True) -> MappingEvent:
    made = MappingEvent(pid, pid, time, start, start + 0x1000, 0, path)
    made.executable = executable
    return made


def forked(parent: int, child: int) -> TaskEvent:
    return TaskEvent(child, child, 1, parent, parent, "fork")


def ended(pid: int) -> TaskEvent:
    return TaskEvent(pid, pid, 1, 1, 1, "exit")


class Sampler:
    """Hands out scripted records."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.lost = 0

    def read(self) -> list[Any]:
        waiting, self.waiting = self.waiting, []
        return waiting

    def close(self) -> None:
        pass


def follower(kernel: FakeKernel, pid: int = -1, wanted: Any = set) -> tuple[Follower, Sampler]:
    made, sampler = Follower(kernel, pid, wanted), Sampler()
    assert "perf" in made.problem  # the fake kernel has no events
    made._sampler = sampler  # type: ignore[assignment]
    return made, sampler


def paths(processes: Processes, pid: int) -> list[tuple[int, str]]:
    return [(mapping.start, mapping.path) for mapping in processes.mappings(pid)]


def test_processes_that_were_there() -> None:
    kernel = FakeKernel({"/proc/5/maps": A + B, "/proc/6/maps": A})
    made, _ = follower(kernel)
    assert not made.unfinished
    del kernel.files["/proc/5/maps"]
    processes = Processes(None)
    assert made.tell(5, processes)
    assert paths(processes, 5) == [(0x401000, "/bin/a"), (0x7F0000, "/usr/lib/b.so")]
    assert not made.tell(99, processes) and not made.tell(5, processes)


def test_programs_that_were_started_later() -> None:
    made, sampler = follower(FakeKernel({"/proc/5/maps": A}))
    sampler.waiting = [forked(5, 8), mapped(8, 0x900000, "/bin/c"), mapped(8, 0x7F0000, "/usr/lib/b.so"), ended(8)]
    processes = Processes(None)
    assert made.tell(8, processes)
    # what it had before the exec stays, where nothing new lies
    assert paths(processes, 8) == [(0x401000, "/bin/a"), (0x7F0000, "/usr/lib/b.so"), (0x900000, "/bin/c")]


def test_files_of_containers_whose_processes_have_ended() -> None:
    kernel = FakeKernel({"/proc/5/maps": A, "/proc/5/root": "", "/proc/5/ns/mnt": "", "/proc/6/maps": A})
    links = {"self/ns/mnt": "mnt:[1]", "5/ns/mnt": "mnt:[2]", "5/root": "/", "6/ns/mnt": "mnt:[1]", "6/root": "/"}

    def link(call: Any) -> int:
        text = links.get(call.args[1].rstrip(b"\0").decode().removeprefix("/proc/"))
        if text is None:
            return -2
        call.args[2][: len(text)] = text.encode()
        return len(text)

    kernel.on("readlinkat", link)
    made, sampler = follower(kernel)
    held = len(kernel.open_fds)
    assert held == 2  # its root directory and its mount namespace
    links["9/ns/mnt"], links["9/root"] = "mnt:[2]", "/"
    sampler.waiting = [forked(5, 8), ended(8), ended(5), forked(6, 9), mapped(9, 0x900000, "/bin/c"), forked(6, 10)]
    made.drain()
    links.clear()
    del kernel.files["/proc/5/maps"], kernel.files["/proc/6/maps"]
    processes = Processes(None)
    for pid in (5, 8, 9, 10, 6):
        assert made.tell(pid, processes)
    root = processes.root(5)
    assert root.startswith("/proc/self/fd/") and processes.root(8) == processes.root(9) == root  # the child, and who entered it
    assert processes.root(6) == processes.root(10) == ""
    made.close()
    assert len(kernel.open_fds) == held
    made.release()
    assert not kernel.open_fds


def test_what_is_mapped_after_a_process_was_asked_for() -> None:
    made, sampler = follower(FakeKernel({"/proc/5/maps": A}))
    processes = Processes(None)
    made.tell(5, processes)
    sampler.waiting = [mapped(5, 0x401000, "/usr/lib/new.so"), mapped(5, 0x500000, "/data", executable=False), mapped(6, 0x1000, "/other")]
    made.drain()
    assert paths(processes, 5) == [(0x401000, "/usr/lib/new.so")]


def test_forks_of_forks() -> None:
    made, sampler = follower(FakeKernel({"/proc/5/maps": A}))
    sampler.waiting = [forked(4 + n, 5 + n) for n in range(1, 100)] + [mapped(50, 0x600000, "/late")]
    processes = Processes(None)
    made.tell(104, processes)
    assert paths(processes, 104) == [(0x401000, "/bin/a")]
    made.tell(50, processes)
    assert paths(processes, 50) == [(0x401000, "/bin/a"), (0x600000, "/late")]


def test_a_parent_that_was_never_seen_is_looked_at() -> None:
    kernel = FakeKernel({"/proc/self/maps": ""})
    made, sampler = follower(kernel)
    kernel.files["/proc/5/maps"] = A.encode()
    sampler.waiting = [forked(5, 8), TaskEvent(5, 9, 1, 5, 5, "fork")]
    processes = Processes(None)
    made.tell(8, processes)
    assert paths(processes, 8) == [(0x401000, "/bin/a")]


def test_one_process_only() -> None:
    made, sampler = follower(FakeKernel({"/proc/5/maps": A, "/proc/6/maps": B}), 5)
    sampler.waiting = [mapped(6, 0x1000, "/x"), mapped(5, 0x2000, "/y"), forked(5, 7)]
    processes = Processes(None)
    assert made.tell(5, processes) and not made.tell(6, processes) and not made.tell(7, processes)
    assert paths(processes, 5) == [(0x2000, "/y"), (0x401000, "/bin/a")]


def test_what_is_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mappings_module, "_MOST", 100)
    made, sampler = follower(FakeKernel({"/proc/1/maps": A}), wanted=lambda: {12, 13})
    for pid in range(10, 200):
        sampler.waiting += [forked(1, pid), mapped(pid, pid << 16, "/p"), ended(pid)]
    made.drain()
    assert len(made._known) <= 75 and made.dropped == 0 and not made._known[1].gone
    processes = Processes(None)
    assert made.tell(12, processes) and made.tell(199, processes) and not made.tell(20, processes)
    assert (12 << 16, "/p") in paths(processes, 12)
    made._wanted = lambda: set(range(10, 1000))
    for pid in range(200, 300):
        sampler.waiting += [forked(1, pid), mapped(pid, pid << 16, "/p"), ended(pid)]
    made.drain()
    assert made.dropped > 20 and len(made._known) <= 75
    symbols = SessionSymbols(FakeKernel(), {}, True)
    symbols.follower = made
    sampler.lost = 4
    assert [(loss.kind, loss.subject) for loss in symbols.losses()] == [
        ("mappings", "the kernel's buffer"),
        ("mappings", "processes that have ended"),
    ]


def test_a_damaged_ring_ends_following_but_not_the_session() -> None:
    made, sampler = follower(FakeKernel({"/proc/5/maps": A}))

    def broken() -> list[Any]:
        raise KernelError("a perf ring is damaged", errno=5)

    sampler.read = broken  # type: ignore[method-assign]
    sampler.lost = 3
    made.drain()
    made.drain()
    assert made.lost == 4 and made.problem == "a perf ring is damaged"
    assert made.tell(5, Processes(None))


def test_stacks_that_were_cut_are_counted() -> None:
    symbols = SessionSymbols(FakeKernel({"/proc/sys/kernel/perf_event_max_stack": "200\n"}), {}, True)
    for depth in (3, 126, 127, 150, 200):
        symbols.user_stack(5, range(1, depth + 1))
    assert [(loss.kind, loss.subject, loss.count) for loss in symbols.losses()] == [("cut", "ustack", 2)]


def test_names_of_a_process_that_is_gone() -> None:
    """A stack of a process whose mappings came from the kernel; what it mapped after the first look is asked for again."""
    symbols = SessionSymbols(FakeKernel({"/proc/5/maps": A}), {}, True)
    symbols.follow(-1, [])
    assert symbols.follower is not None
    sampler = Sampler()
    symbols.follower._sampler = sampler  # type: ignore[assignment]
    frames = symbols.user_stack(5, (0x401004, 0x7F0004))
    assert [frame.module for frame in frames] == ["/bin/a", ""]
    sampler.waiting = [mapped(5, 0x7F0000, "/usr/lib/b.so"), ended(5)]
    frames = symbols.user_stack(5, (0x401004, 0x7F0004))
    assert [frame.module for frame in frames] == ["/bin/a", "/usr/lib/b.so"]
    assert symbols.user(5, 0x401004).address == 0x401004
