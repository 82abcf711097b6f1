"""BCC's interface on the real kernel, second part: types of maps, packets that end, return probes and their limits."""

from __future__ import annotations

import ctypes as ct
import importlib.util
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

if os.geteuid() != 0:
    pytest.skip("loading BPF programs needs root", allow_module_level=True)
if importlib.util.find_spec("clang") is None:
    pytest.skip("compiling C needs libclang (harken[c])", allow_module_level=True)

from harken.abi.bpf import BPF_PROG_TYPE_SOCKET_FILTER  # noqa: E402
from harken.bcc import BPF, attach_kernel, lib  # noqa: E402
from harken.kernel.bpf_dump import map_types  # noqa: E402
from harken.kernel.kernel import live  # noqa: E402
from harken.probes.catalogue import Catalogue  # noqa: E402

pytestmark = pytest.mark.kernel
SYS_READ = 0

TEXT = r"""
struct key_t { u32 pid; char comm[16]; };
struct value_t { u64 count; struct { u16 low, high; } inside; enum { RED, BLUE } color; };
BPF_HASH(named, struct key_t, struct value_t);
BPF_PERCPU_ARRAY(cpus, u64, 2);
BPF_STACK_TRACE(stacks, 64);
BPF_ARRAY(reached, u64, 2);

int packets(struct __sk_buff *skb) {
    int zero = 0, one = 1;
    if (load_half(skb, 12) != 0x0800 || load_byte(skb, 23) != 17 || load_half(skb, 36) != PORT)
        return 0;
    reached.increment(zero);
    load_dword(skb, 100);
    reached.increment(one);
    return 0;
}
"""


@pytest.fixture(scope="module")
def receiver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        yield one


@pytest.fixture(scope="module")
def bpf(receiver: socket.socket) -> Iterator[BPF]:
    with BPF(text=TEXT.replace("PORT", str(receiver.getsockname()[1]))) as b:
        b.load_func("packets", BPF_PROG_TYPE_SOCKET_FILTER)
        yield b


def test_the_kernel_knows_what_maps_hold(bpf: BPF) -> None:
    shown = {}
    for name, map in bpf._maps.items():
        btf, key, value = map_types(live(), map.info())
        shown[name] = None if btf is None else (str(btf.type(key)), str(btf.type(value).strip()))
    assert shown["named"] == ("struct key_t", "struct value_t") and shown["cpus"] == ("int", "unsigned long long")
    assert shown["stacks"] is None, "this kind of map takes no types, and is made without"


def test_a_program_ends_where_the_packet_does(bpf: BPF, receiver: socket.socket) -> None:
    function = bpf.funcs[b"packets"]
    BPF.attach_raw_socket(function, "lo")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for size in (2, 200, 3):
                sender.sendto(bytes(size), receiver.getsockname())
                receiver.recv(1000)
        short_and_long, long = (value.value for value in bpf["reached"].values())
    finally:
        os.close(function.sock)
    # a packet on the loopback device passes twice
    assert (short_and_long, long) == (6, 2)


def test_elements_by_descriptor(bpf: BPF) -> None:
    fd = lib.bpf_table_fd(bpf.module, b"named")
    table = bpf["named"]
    key, value, back = table.Key(3, b"one"), table.Leaf(), table.Leaf()
    value.count = 5
    assert lib.bpf_lookup_elem(fd, ct.byref(key), ct.byref(back)) == -1
    assert lib.bpf_update_elem(fd, ct.byref(key), ct.byref(value), 0) == 0
    assert lib.bpf_lookup_elem(fd, ct.pointer(key), ct.pointer(back)) == 0 and back.count == 5
    assert lib.bpf_delete_elem(fd, ct.byref(key)) == 0 and lib.bpf_delete_elem(fd, ct.byref(key)) == -1
    assert len(table) == 0 and os.fstat(fd), "the descriptor is the caller's"


def _asleep(thread: threading.Thread) -> bool:
    """Whether a thread waits inside of read(2)."""
    with open(f"/proc/self/task/{thread.native_id}/syscall") as file:
        return file.read().split()[0] == str(SYS_READ)


def _returns_followed(b: BPF) -> int:
    """How many returns are seen of three calls of a function that are under way at the same time."""
    counters = [os.eventfd(0) for _ in range(3)]
    threads = [threading.Thread(target=os.eventfd_read, args=(fd,)) for fd in counters]
    b["back"].clear()
    for thread in threads:
        thread.start()
        end = time.monotonic() + 20
        while not _asleep(thread) and time.monotonic() < end:
            time.sleep(0.001)
    for thread, fd in zip(threads, counters):
        os.eventfd_write(fd, 1)
        thread.join()
        os.close(fd)
    return len(b["back"])


@pytest.mark.needs("kprobe_tracefs")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="knows system calls by their numbers on x86")
def test_return_probes_follow_as_many_calls_as_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach_kernel, "_NO_MAXACTIVE", (*attach_kernel._NO_MAXACTIVE, "fexit"))  # which has no limit
    with BPF(text="BPF_HASH(back); int leave(struct pt_regs *ctx) { back.increment(bpf_get_current_pid_tgid()); return 0; }") as b:
        seen = []
        for limit in (1, 2, 8):
            b.attach_kretprobe(event="eventfd_read", fn_name="leave", maxactive=limit)
            seen.append(_returns_followed(b))
            b.detach_kretprobe("eventfd_read")
    assert seen == [1, 2, 3]


@pytest.mark.needs("kprobe_perf")
def test_a_kfunc_that_btf_does_not_describe_is_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    described = Catalogue.function
    # every function that a test can call is described, so this one's type is hidden
    monkeypatch.setattr(Catalogue, "function", lambda self, name, *more: None if name == "eventfd_read" else described(self, name, *more))
    text = """
    BPF_HASH(called); BPF_HASH(returned);
    KFUNC_PROBE(eventfd_read, struct kiocb *request) { if (request) called.increment(bpf_get_current_pid_tgid() >> 32); return 0; }
    KRETFUNC_PROBE(eventfd_read) { returned.increment(bpf_get_current_pid_tgid() >> 32); return 0; }
    """
    with BPF(text=text) as b:
        counter = os.eventfd(3, os.EFD_SEMAPHORE)
        for _ in range(3):
            os.eventfd_read(counter)
        os.close(counter)
        own = ct.c_uint64(os.getpid())
        assert (b["called"][own].value, b["returned"][own].value) == (3, 3)
