"""The lines of a real ``trace`` file, made again from the raw pages of the same buffer.  Reading ``trace`` consumes nothing."""

from __future__ import annotations

import os
import re
import socket
from bisect import bisect_right

import pytest

from harken.base.errors import HarkenError
from harken.formats.event_format import parse
from harken.formats.print_fmt import Env
from harken.formats.ring_page import parse_layout
from harken.kernel import tracefs, tracefs_instances
from harken.kernel.kernel import live
from harken.render.ftrace_batches import windows
from harken.render.ftrace_kernel import KernelLines
from harken.testing.trace_pages import raw_pages

pytestmark = [pytest.mark.kernel, pytest.mark.needs("tracefs")]

#: What is switched on: many kinds of print formats, few enough events for an emulated machine.
GROUPS = (
    "sched",
    "syscalls",
    "task",
    "signal",
    "timer",
    "kmem",
    "skb",
    "sock",
    "net",
    "irq",
    "workqueue",
    "block",
    "writeback",
    "filelock",
    "oom",
    "exceptions",
    "ipi",
)
#: What depends on the moment of printing or on the kernel's secret (docs/print_fmt.md): an age in jiffies, and ``%p``, which is hashed.
#: With the option hash-ptr off it would not be, but then Linux 6.1 prints some texts as empty.
UNKNOWABLE = re.compile(r"age=\S+|(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])")


def masked(line: str) -> str:
    return UNKNOWABLE.sub("?", line)


def symbols():
    table = []
    with open("/proc/kallsyms") as file:
        for line in file:
            address, _, name = line.rstrip("\n").split(" ", 2)
            table.append((int(address, 16), name.replace("\t", " ")))
    table.sort(key=lambda entry: entry[0])
    starts = [address for address, _ in table]
    image = next((address for address, name in table if name == "_stext"), 0)  # offsets of per-CPU variables come before it

    def find(address: int):
        index = bisect_right(starts, address) - 1
        if index < 0 or address < image:
            return None
        start = starts[index]
        first = next(i for i in range(index, -2, -1) if i < 0 or starts[i] != start) + 1
        after = starts[index + 1] if index + 1 < len(starts) else start
        return table[first][1], start, after - start

    return find


def strings(place) -> dict[int, str]:
    found = {}
    for line in place.read("printk_formats").splitlines():
        address, colon, text = line.partition(" : ")
        if colon:
            found[int(address, 16)] = text.strip('"')
    return found


def make_events() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    left, right = socket.socketpair()
    left.send(b"x")
    right.recv(1)
    left.close()
    right.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        one.sendto(b"x", one.getsockname())
        one.recv(1)
    for folder in ("/proc/self", "/sys"):
        os.listdir(folder)
    with open("/proc/self/maps") as file:
        file.read()


def enums():
    try:
        from harken.kernel.btf import vmlinux_types

        types = vmlinux_types(live())
    except HarkenError:
        return None, None
    return types.enum_value, types.find


def test_the_trace_file_made_again():
    place = tracefs.find(live())
    with tracefs_instances.Instance(place, "text") as private:
        private.settings.set("buffer_size_kb", "8192")
        groups = [group for group in GROUPS if live().exists(private.path(f"events/{group}/enable"))]
        for group in groups:
            private.write(f"events/{group}/enable", "1")
        make_events()
        for group in groups:
            private.write(f"events/{group}/enable", "0")
        private.write("tracing_on", "0")
        with open(private.path("trace"), errors="surrogateescape") as file:
            text = file.read()
        cpus = sorted(int(name[3:]) for name in live().listdir(private.path("per_cpu")))
        pages = {cpu: raw_pages(private, cpu) for cpu in cpus}
    events = {}
    for category in [*groups, "ftrace"]:
        for name in live().listdir(place.path(f"events/{category}")):
            if live().exists(place.path(f"events/{category}/{name}/format")):
                event = parse(place.read(f"events/{category}/{name}/format"), category)
                events[event.id] = event
    wanted = [line for line in text.splitlines() if not line.startswith("#")]
    comms = {}
    for line in wanted:
        head = line.partition(" [")[0]
        comm, _, pid = head.strip().rpartition("-")
        comms[int(pid)] = comm
    constant, struct = enums()
    env = Env(symbol=symbols(), string=strings(place).get, constant=constant, struct=struct, comm=lambda pid: comms.get(pid, "<...>"))
    layout = parse_layout(place.read("events/header_page"))
    best: list[tuple[str, str]] = []
    for bare in (False, True):  # two generations of the kernel print arguments of system calls differently
        lines = KernelLines(events, env.replace(bare_syscalls=bare))
        got = "".join(
            lines.text(window) for window in windows(list((c, [p]) for c, p in pages.items()), 4096, layout, numpy=False)
        ).splitlines()
        assert len(got) == len(wanted) > 50
        wrong = [(a, b) for a, b in zip(wanted, got) if a != b and masked(a) != masked(b)]
        if bare is False or len(wrong) < len(best):
            best = wrong
        if not wrong:
            break
    kinds = {line.partition(": ")[2].split(" ")[0] for line in wanted}
    assert len(kinds) > 20
    assert not best, f"{len(best)} of {len(wanted)} lines differ, the first:\n{best[0][0]}\n{best[0][1]}"
