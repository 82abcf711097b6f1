"""BCC's interface on the real kernel: the brief's program, tables, events with their losses, stacks, messages."""

from __future__ import annotations

import ctypes as ct
import importlib.util
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if os.geteuid() != 0:
    pytest.skip("loading BPF programs needs root", allow_module_level=True)
if importlib.util.find_spec("clang") is None:
    pytest.skip("compiling C needs libclang (harken[c])", allow_module_level=True)

import harken  # noqa: E402
from harken.bcc import BPF  # noqa: E402
from harken.bcc.errors import BPFError  # noqa: E402
from harken.bcc.facts import has  # noqa: E402

pytestmark = pytest.mark.kernel
on_the_host_only = pytest.mark.skipif("HARKEN_GUEST" in os.environ, reason="the same on every kernel, and slow where it is emulated")

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(harken.__file__).parent.parent), *sys.path])}

# One program for most tests: in an emulated guest each compilation takes seconds.
TEXT = r"""
#include <linux/sched.h>
struct inner_t { u16 port; u8 flags[3]; };
struct packed_t { u8 kind; u64 number; } __attribute__((packed));
struct data_t { u64 number; u32 pid; char comm[TASK_COMM_LEN]; struct inner_t inner; unsigned __int128 wide; };
struct key_t { u32 pid; u64 slot; };

BPF_PERF_OUTPUT(events);
BPF_RINGBUF_OUTPUT(ring, 16);
BPF_HASH(counts, u32);
BPF_HASH(tight, u32, struct packed_t);
BPF_HASH(pairs, struct key_t);
BPF_HISTOGRAM(dist);
BPF_PERCPU_ARRAY(cpus, u64, 2);
BPF_STACK_TRACE(stacks, 256);
BPF_HASH(stack_of, u32, int);
BPF_ARRAY(numbers, u64, 4);
BPF_QUEUE(queue, u64, 8);
BPF_PROG_ARRAY(jumps, 4);

static int fill(struct data_t *data) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (pid != OWN_PID)
        return 0;
    data->pid = pid;
    data->number = 7;
    data->inner.port = 0x1234;
    data->inner.flags[2] = 9;
    data->wide = (((unsigned __int128)5) << 64) | 6;
    return bpf_get_current_comm(&data->comm, sizeof(data->comm)) == 0;
}

TRACEPOINT_PROBE(syscalls, sys_enter_getppid) {
    struct data_t data = {};
    if (!fill(&data))
        return 0;
    events.perf_submit(args, &data, sizeof(data));
    return 0;
}

TRACEPOINT_PROBE(syscalls, sys_enter_getuid) {
    struct data_t data = {};
    if (!fill(&data))
        return 0;
    struct key_t key = {.pid = data.pid, .slot = 3};
    ring.ringbuf_output(&data, sizeof(data), 0);
    counts.increment(data.pid);
    pairs.increment(key);
    dist.increment(bpf_log2l(data.number));
    cpus.increment(1);
    struct packed_t value = {.kind = 1};
    value.number = data.number << 40 | 5;
    if (value.number >> 40 == 7)
        tight.update(&data.pid, &value);
    int id = stacks.get_stackid(args, BPF_F_USER_STACK);
    stack_of.update(&data.pid, &id);
    return 0;
}

int on_packet(struct __sk_buff *skb) { return 0; }
int on_kprobe(struct pt_regs *ctx) { counts.increment(1); return 0; }
"""


@pytest.fixture(scope="module")
def b() -> Iterator[Any]:
    with BPF(text=TEXT.replace("OWN_PID", str(os.getpid()))) as made:
        yield made


def _wait_for(done: Any, action: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        action()


@pytest.mark.keeps_fds
def test_events_and_losses(b: Any) -> None:
    seen: list[Any] = []
    lost: list[int] = []
    events = b["events"]
    events.open_perf_buffer(lambda cpu, data, size: seen.append(events.event(data)), page_cnt=1, lost_cb=lost.append)
    os.getppid()
    _wait_for(lambda: seen, lambda: b.perf_buffer_poll(200))
    event = seen[0]
    assert (event.number, event.pid, event.inner.port, event.inner.flags[:]) == (7, os.getpid(), 0x1234, [0, 0, 9])
    assert event.wide[:] == [6, 5] and event.comm == Path("/proc/self/comm").read_bytes().strip()
    seen.clear()
    for _ in range(5000):
        os.getppid()
    b.perf_buffer_poll(0)
    b.perf_buffer_consume()
    # a kernel before 6.0 tells of the rest with the next event that fits
    _wait_for(lambda: len(seen) + sum(lost) >= 5000, lambda: (os.getppid(), b.perf_buffer_consume()), 5)
    assert lost and len(seen) + sum(lost) >= 5000
    assert b.num_open_tracepoints() == 2


@pytest.mark.keeps_fds
@pytest.mark.needs("ringbuf")
def test_a_ring_buffer_and_the_tables(b: Any) -> None:
    seen: list[Any] = []
    ring = b["ring"]
    ring.open_ring_buffer(lambda context, data, size: seen.append((context, size, ring.event(data).number)), "mine")
    b["counts"].clear()
    for _ in range(3):
        os.getuid()
    _wait_for(lambda: len(seen) >= 3, lambda: b.ring_buffer_poll(200))
    size = ct.sizeof(ring._event_class)
    assert seen == [("mine", size, 7)] * 3
    counts = b["counts"]
    assert [(key.value, value.value) for key, value in counts.items()] == [(os.getpid(), 3)]
    assert {key.value: value.value for key, value in counts.items_lookup_batch()} == {os.getpid(): 3}
    assert counts[ct.c_uint(os.getpid())].value == 3 and 0 not in counts
    assert b["pairs"].items()[0][0].slot == 3
    assert b["tight"][os.getpid()].number == 7 << 40 | 5, "members of packed structs need not be aligned"
    assert b["dist"][3].value == 3, "7 lies between 4 and 7"
    assert b["cpus"].sum(1).value == 3 and len(b["cpus"][1]) == b["cpus"].total_cpu
    number = b["stack_of"][os.getpid()].value
    addresses = list(b["stacks"].walk(number))
    assert addresses
    if "HARKEN_GUEST" not in os.environ:  # reading symbol tables takes a minute where it is emulated
        names = [b.sym(address, os.getpid()) for address in addresses]
        assert any(name != b"[unknown]" for name in names)
    numbers = b["numbers"]
    numbers[3] = 11
    assert [value.value for value in numbers.values()] == [0, 0, 0, 11] and numbers[-1].value == 11
    queue = b["queue"]
    queue.push(ct.c_ulonglong(5))
    queue.push(ct.c_ulonglong(6))
    assert queue.peek().value == 5 and [value.value for value in queue.values()] == [5, 6]


@pytest.mark.keeps_fds
def test_functions_without_an_attachment(b: Any, capfd: pytest.CaptureFixture[str]) -> None:
    function = b.load_func("on_packet", BPF.SOCKET_FILTER)
    assert function.name == b"on_packet" and function.fd > 0 and b.funcs[b"on_packet"] is function
    b["jumps"][0] = function
    assert "exit" in b.disassemble_func("on_packet")
    with pytest.raises(Exception, match="Unknown program b'nothing'"):
        b.load_func("nothing", BPF.KPROBE)
    with pytest.raises(KeyError):
        b["nothing"]


@pytest.mark.keeps_fds
def test_a_uprobe(b: Any) -> None:
    if not has("uprobe_multi", "uprobe_perf", "uprobe_tracefs"):
        pytest.skip("this kernel has no uprobes")
    b["counts"].clear()
    b.attach_uprobe(name="c", sym="getppid", fn_name="on_kprobe", pid=os.getpid())
    assert b.num_open_uprobes() == 1
    os.getppid()
    assert b["counts"][1].value == 1
    b.detach_uprobe(name="c", sym="getppid", pid=os.getpid())
    assert b.num_open_uprobes() == 0
    with pytest.raises(Exception, match="could not determine address of symbol getpidd in c: did you mean"):
        b.attach_uprobe(name="c", sym="getpidd", fn_name="on_kprobe")


@on_the_host_only
def test_what_is_not_there_is_explained(b: Any) -> None:
    with pytest.raises(
        Exception, match="Failed to attach BPF program b'on_kprobe' to kprobe b'vfs_raed'.*did you mean.*vfs_read"
    ) as caught:
        b.attach_kprobe(event="vfs_raed", fn_name="on_kprobe")
    assert isinstance(caught.value, BPFError)
    with pytest.raises(Exception, match="Failed to attach BPF program b'on_kprobe' to tracepoint b'sched:sched_swich'.*sched_switch"):
        b.attach_tracepoint(tp="sched:sched_swich", fn_name="on_kprobe")
    if not has("kprobe_multi", "kprobe_perf", "kprobe_tracefs", "fentry"):
        with pytest.raises(Exception, match="cannot be attached on this kernel: .*instead"):
            b.attach_kprobe(event="vfs_read", fn_name="on_kprobe")


@pytest.mark.keeps_fds
def test_kernel_functions(b: Any) -> None:
    if not has("kprobe_multi", "kprobe_perf", "kprobe_tracefs", "fentry"):
        pytest.skip("this kernel can probe no functions")
    assert b"vfs_read" in BPF.get_kprobe_functions(b"vfs_rea.*")
    b["counts"].clear()
    b.attach_kprobe(event_re=r"^vfs_(read|write)$", fn_name="on_kprobe")
    b.attach_kretprobe(event="vfs_read", fn_name="on_kprobe")
    assert b.num_open_kprobes() == 3
    Path("/proc/self/stat").read_bytes()
    assert b["counts"][1].value >= 2
    b.detach_kprobe("vfs_read")
    b.detach_kprobe("vfs_write", "on_kprobe")
    b.detach_kretprobe("vfs_read")
    assert b.num_open_kprobes() == 0


@on_the_host_only
def test_a_kfunc_as_a_kprobe() -> None:
    from harken.abi import bpf as abi
    from harken.base.diagnostics import Source
    from harken.base.errors import SourceError
    from harken.bcc.names import catalogue
    from harken.compiler.target import Target
    from harken.languages.c import compile as c

    text = "KFUNC_PROBE(f, void *a, u64 b) { return b > 1; } KRETFUNC_PROBE(f) { return 0; } KRETFUNC_PROBE(g, void *a) { return !a; }"
    unit = c.compile(Source("test.c", text), catalogue())
    target = Target(*catalogue().features.target())

    def made(name: str, returns: bool) -> int:
        context = c.Context(abi.BPF_PROG_TYPE_KPROBE, "pt_regs", (), 0, "", -1, 0, returns)
        return len(c.program(unit, name, context, target, catalogue()).programs[0].insns)

    assert made("kfunc__vmlinux__f", False) > made("kretfunc__vmlinux__f", True) > 0
    with pytest.raises(SourceError, match="arguments are gone"):
        made("kretfunc__vmlinux__g", True)


@on_the_host_only
def test_bad_c_is_shown_with_its_line(tmp_path: Path) -> None:
    script = tmp_path / "tool.py"
    script.write_text("from bcc import BPF\nBPF(text='''int f(void *ctx) {\n    return unknown + 1;\n}''')\n")
    done = subprocess.run(
        [sys.executable, "-m", "harken.bcc", str(script)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "<text>:2:12-" in done.stderr and "undeclared identifier 'unknown'" in done.stderr
    assert done.stderr.endswith("ERROR: Failed to compile BPF module <text>\n") and "Traceback" not in done.stderr


def test_the_briefs_program(tmp_path: Path) -> None:
    """trace_open.c and trace_open.py, byte for byte: opens are printed as they happen."""
    if not has("kprobe_multi", "kprobe_perf", "kprobe_tracefs", "fentry"):
        pytest.skip("this kernel can probe no functions")
    shutil.copy(HERE / "brief/trace_open.c", tmp_path / "trace_open.c")
    shutil.copy(HERE / "brief/trace_open.py.txt", tmp_path / "trace_open.py")
    wanted = tmp_path / "opened-by-the-test"
    wanted.touch()
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "harken.bcc", "trace_open.py"], cwd=tmp_path, env=ENVIRONMENT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    text = b""
    try:
        end = time.monotonic() + 120
        while os.fsencode(wanted) not in text and time.monotonic() < end and process.poll() is None:
            wanted.read_bytes()
            if select.select([process.stdout], [], [], 0.2)[0]:
                text += os.read(process.stdout.fileno(), 1 << 16)
        process.send_signal(signal.SIGINT)
        rest, problems = process.communicate(timeout=60)
    finally:
        process.kill()
    lines = (text + rest).decode().splitlines()
    assert lines and lines[0].split() == ["TIME(s)", "COMM", "PID", "FILE"], problems.decode()
    comm = Path("/proc/self/comm").read_bytes().strip()
    mine = [line for line in lines if str(wanted) in line]
    assert mine, (lines[:5], problems.decode())
    words = mine[0].split()
    float(words[0])  # may be negative: only the records of one CPU are in order, in BCC too
    assert words[-1] == repr(os.fsencode(wanted)) and repr(comm) in mine[0]
    assert process.returncode == 0, problems.decode()
