"""Probes of a system call's function where there are no kprobes: arguments and results come from the system call's tracepoints."""

from __future__ import annotations

import os

import pytest

from harken.abi.arch import for_machine
from harken.session.api import trace

pytestmark = [pytest.mark.kernel, pytest.mark.needs("tracepoint_perf")]


def test_the_result_of_a_system_call(tmp_path):
    program = f"kretprobe:{for_machine(os.uname().machine).syscall_prefix}lseek /pid == {os.getpid()}/ {{ @[retval] = count(); }}"
    with trace(program, duration=20) as session, open(tmp_path / "x", "wb") as file:
        for _ in range(3):
            os.lseek(file.fileno(), 777, os.SEEK_SET)
        session.run(0.1)
        assert session.maps["@"][777] == 3


def test_the_arguments_of_a_system_call(tmp_path):
    pytest.importorskip("clang", reason="C needs libclang (pip install harken[c])")
    from harken.bcc import BPF

    with BPF(
        text="""
BPF_HASH(seen, u64, u64);
int syscall__lseek(struct pt_regs *ctx, unsigned int fd, u64 offset, unsigned int whence) {
    if (offset != 12345) return 0;
    u64 one = whence;
    seen.update(&offset, &one);
    return 0;
}
int done(struct pt_regs *ctx) { u64 r = PT_REGS_RC(ctx), k = 1; if (r == 12345) seen.update(&k, &r); return 0; }
"""
    ) as b:
        b.attach_kprobe(event=b.get_syscall_fnname("lseek"), fn_name="syscall__lseek")
        b.attach_kretprobe(event=b.get_syscall_fnname("lseek"), fn_name="done")
        with open(tmp_path / "x", "wb") as file:
            os.lseek(file.fileno(), 12345, os.SEEK_SET)
        assert {k.value: v.value for k, v in b["seen"].items()} == {12345: 0, 1: 12345}


def test_functions_of_the_block_layer(tmp_path):
    pytest.importorskip("clang", reason="C needs libclang (pip install harken[c])")
    from harken.bcc import BPF
    from harken.bcc.names import catalogue

    if ("block", "block_io_start") not in catalogue().tracepoints():
        pytest.skip("this kernel has no tracepoint where the request is accounted for (Linux 6.5)")
    text = "BPF_ARRAY(bytes, u64, 1);"
    text += "int start(struct pt_regs *ctx, struct request *r) { bytes.atomic_increment(0, r->__data_len); return 0; }"
    with BPF(text=text) as b:
        b.attach_kprobe(event="blk_account_io_start", fn_name="start")
        with open(tmp_path / "x", "wb") as file:
            file.write(bytes(1 << 16))
            file.flush()
            os.fsync(file.fileno())
        if os.stat(tmp_path).st_dev >> 8 == 0:
            pytest.skip("the temporary folder is on no block device")
        assert b["bytes"][0].value >= 1 << 16
