"""BCC's interface on the real kernel, second part: types of maps, packets that end."""

from __future__ import annotations

import ctypes as ct
import importlib.util
import os
import socket
from collections.abc import Iterator

import pytest

if os.geteuid() != 0:
    pytest.skip("loading BPF programs needs root", allow_module_level=True)
if importlib.util.find_spec("clang") is None:
    pytest.skip("compiling C needs libclang (harken[c])", allow_module_level=True)

from harken.abi.bpf import BPF_PROG_TYPE_SOCKET_FILTER  # noqa: E402
from harken.bcc import BPF, lib  # noqa: E402
from harken.kernel.bpf_dump import map_types  # noqa: E402
from harken.kernel.kernel import live  # noqa: E402

pytestmark = pytest.mark.kernel

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
