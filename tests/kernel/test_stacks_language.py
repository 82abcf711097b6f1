"""Stacks and symbols of the language on a real kernel: what this process and its children do is known, so their stacks are too."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import Any

import pytest

sys.path.insert(0, __file__.rsplit("/", 1)[0])

pytestmark = pytest.mark.kernel

if os.geteuid() != 0:
    pytest.skip("loading BPF programs needs root", allow_module_level=True)

import language  # noqa: E402

from harken.abi.arch import for_machine  # noqa: E402
from harken.session.api import trace  # noqa: E402

ME = os.getpid()
#: what the functions of system calls are called here
PREFIX = for_machine(os.uname().machine).syscall_prefix


def needs(*features: str) -> None:
    for name in features:
        answer = language._catalogue.features.answer(name)
        if answer.state != "yes":
            pytest.skip(f"no {name}: {answer.reason}")


def needs_symbols() -> None:
    if language._catalogue.kernel_symbols.hidden:
        pytest.skip("the kernel hides its addresses")


def child() -> None:
    """A forked process that does one system call and is gone."""
    os.getpgid(0)
    pid = os.fork()
    if pid == 0:
        os.getpgid(0)
        os._exit(0)
    os.waitpid(pid, 0)


def test_every_form_passes_the_verifier() -> None:
    needs("prog_run")
    needs_symbols()
    program = (
        "BEGIN { @[kstack] = count(); @u[ustack(perf, 5), comm] = count(); printf('%s|%s', kstack(3), ustack(raw, 2)); "
        "$s = kstack; print($s); @x = kstack(2); print(len(kstack) > 1); print(len($s) > 1); print(len(@x)); print(ustack(build_id, 3)); "
        "for ($i : 0..2) { print(kstack(1)); } print((1, kstack(2), 2)); @m[1] = ustack; for ($kv : @m) { print($kv.1); } }"
    ).replace("'", '"')
    text, session = language.run(program)
    assert not session.losses
    assert "true\ntrue\n2\n" in text
    # a BEGIN program runs inside of a system call of this process
    first = text.split("@[\n")[1].split("]: 1")[0].splitlines()
    assert len(first) > 3 and all(line.startswith("    ") and "+" in line for line in first)
    assert any("bpf_prog_test_run" in line for line in first) and any("sys_bpf" in line for line in first)


@pytest.mark.parametrize(
    "probe, feature",
    [
        ("tracepoint:sched:sched_process_fork", "tracepoint_perf"),
        ("rawtracepoint:sys_enter", "raw_tracepoint"),
        ("kprobe:SYSTEM_CALL_getpgid", "kprobe_perf"),
        ("fentry:SYSTEM_CALL_getpgid", "fentry"),
    ],
)
def test_both_stacks_at(probe: str, feature: str) -> None:
    needs(feature)
    needs_symbols()
    probe = probe.replace("SYSTEM_CALL_", PREFIX)
    text, session = language.run(f"{probe} /pid == {ME}/ {{ @k[kstack] = count(); @u[ustack(1)] = count(); }}", work=child)
    assert not session.losses
    kernel, user = text.split("@u[", 1)
    assert "do_syscall_64+" in kernel or "el0_svc+" in kernel or PREFIX in kernel, text
    assert "getpgid+" in user or "ork+" in user, text


def test_uprobe_has_a_user_stack_and_no_kernel_stack() -> None:
    needs("uprobe_perf")
    libraries = language._catalogue.libraries("libc")
    if not libraries:
        pytest.skip("no libc found")
    path = libraries[0]
    program = (
        f'uprobe:{path}:getpgid /pid == {ME}/ {{ @u[ustack(1), usym(reg("{"ip" if os.uname().machine == "x86_64" else "pc"}"))] = count(); '
        "@k[kstack] = count(); }"
    )
    text, session = language.run(program, work=lambda: os.getpgid(0))
    assert "@k[\n]: 1\n" in text and not session.losses
    stack, symbol = text.split("@u[\n    ")[1].split("]: 1")[0].split("\n, ")
    assert stack.endswith("getpgid+0") and stack == f"{symbol}+0"


def test_uaddr_in_a_library() -> None:
    needs("uprobe_perf")
    libraries = language._catalogue.libraries("libc")
    if not libraries:
        pytest.skip("no libc found")
    libc = ctypes.CDLL(libraries[0])
    wanted = ctypes.cast(libc.getenv, ctypes.c_void_p).value
    program = f'uprobe:{libraries[0]}:getpgid /pid == {ME}/ {{ print(uaddr("getenv")); for ($i : 0..1) {{ print(uaddr("getenv")); }} }}'
    text, _ = language.run(program, work=lambda: os.getpgid(0))
    assert text.split() == [f"{wanted:#x}"] * 2


@pytest.mark.parametrize("mechanism", ["the best", "uprobe_perf"])
def test_uaddr_when_a_function_returns(mechanism: str, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("uprobe_perf")
    libraries = language._catalogue.libraries("libc")
    if not libraries:
        pytest.skip("no libc found")
    if mechanism != "the best":  # the others do not know the function, a second program notes where it begins
        monkeypatch.setattr(language._catalogue.features, "answer", _without("uprobe_multi", language._catalogue.features.answer))
    wanted = ctypes.cast(ctypes.CDLL(libraries[0]).getenv, ctypes.c_void_p).value
    program = f'uretprobe:{libraries[0]}:getpgid /pid == {ME}/ {{ print(uaddr("getenv")); for ($i : 0..1) {{ print(uaddr("getenv")); }} }}'
    text, session = language.run(program, work=lambda: os.getpgid(0))
    assert text.split() == [f"{wanted:#x}"] * 2
    assert [row[1] for row in session.unit.plan] == [mechanism] or mechanism == "the best"


def _without(missing: str, answer: Any) -> Any:
    def asked(name: str, fresh: bool = False) -> Any:
        found = answer(name, fresh)
        return found.replace(state="no", reason="not here") if name == missing else found

    return asked


def test_process_that_is_gone() -> None:
    needs("tracepoint_perf")
    text, session = language.run(
        "tracepoint:syscalls:sys_enter_getpgid /pid != $1/ { @[ustack(perf, 1)] = count(); }",
        (str(ME),),
        work=child,
    )
    assert not session.losses
    assert "getpgid+" in text and "libc" in text and "[unknown]" not in text


def test_program_that_is_gone() -> None:
    needs("tracepoint_perf")
    text, session = language.run(
        'tracepoint:syscalls:sys_enter_exit_group /comm == "true"/ { @[ustack(perf, 1)] = count(); }',
        work=lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0),
    )
    assert "(/" in text and "[unknown]" not in text, text


def test_process_that_was_there_before() -> None:
    """It is gone before its stack is asked for, and mapped nothing while it was traced."""
    needs("tracepoint_perf")
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os.getpgid(0)
        os._exit(0)
    os.read(ready[0], 1)

    def work() -> None:
        os.write(go[1], b"x")
        os.waitpid(pid, 0)

    text, _ = language.run("tracepoint:syscalls:sys_enter_getpgid /pid == $1/ { @[ustack(1)] = count(); }", (str(pid),), work=work)
    for fd in (*ready, *go):
        os.close(fd)
    assert "getpgid+" in text


def test_symbols() -> None:
    needs("prog_run")
    needs_symbols()
    text, _ = language.run('BEGIN { print(ksym(kaddr("vfs_read") + 4)); @[ksym(kaddr("vfs_read"))] = 1; print(ksym(5)); print(usym(6)); }')
    assert text.split()[:3] == ["vfs_read", "0x5", "0x6"] and "@[vfs_read]: 1" in text


def test_library_gives_frames() -> None:
    needs("tracepoint_perf")
    program = (
        f"tracepoint:syscalls:sys_enter_getpgid /comm == $1 && pid != {ME}/ {{ @[ustack(1), pid] = count(); @s[usym(5)] = 1; "
        f'printf("%s", ustack(1)); }} tracepoint:sched:sched_process_fork /pid == {ME}/ {{ print(kstack(2)); }}'
    ).replace("$1", '"' + language._kernel.read("/proc/self/comm").decode().strip() + '"')
    with trace(program, cached=False) as running:
        child()
        events: list[Any] = []
        deadline = time.monotonic() + 30
        while len(events) < 2 and time.monotonic() < deadline:
            running.run(0.05)
            events += [event for event in running._sink.take()]
    events.sort(key=lambda event: event.action)
    (kernel,), (user,) = events[0].values, events[1].values
    assert user.pid > ME and user[0].name.endswith("getpgid") and "libc" in user[0].module and user[0].kind == "native"
    assert kernel.pid == -1 and len(kernel) == 2 and kernel[0].kind == "kernel"
    assert events[1].text == f"\n        {user[0].name}+{user[0].offset}\n"
    assert running.maps["@"] == {(user, user.pid): 1}
    (symbol,) = running.maps["@s"]
    assert (symbol.pid, symbol.address, symbol.name) == (user.pid, 5, "")
