"""Features: three answers, what a refusal means, and what the cache may keep."""

from __future__ import annotations

import errno
import gzip

import pytest

from harken.abi import bpf as abi
from harken.kernel import features
from harken.kernel.features import NAMES, Answer, Features, all_names
from harken.kernel.features.asking import Asking
from harken.kernel.features.options import OPTIONS
from harken.testing.fake_kernel import FakeKernel, bpf_field

ALL = f"{(1 << 41) - 1:016x}"


def machine(caps: str = ALL, seccomp: int = 0, uid: int = 0, config: str = "", **files) -> FakeKernel:
    return FakeKernel(
        {
            "/proc/self/status": f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{caps}\nSeccomp:\t{seccomp}\n",
            "/proc/self/uid_map": "         0          0 4294967295\n",
            "/proc/sys/kernel/random/boot_id": "52e6de11-d09c-4186-b79e-5f2a2e29d613\n",
            "/proc/self/mounts": "n /s securityfs rw 0 0\n",
            "/s/lockdown": "none [integrity] confidentiality\n",
            "/s/lsm": "lockdown,bpf\n",
            **({"/proc/config.gz": gzip.compress(config.encode())} if config else {}),
            **files,
        }
    )


def loading(kernel: FakeKernel, number: int = 0) -> FakeKernel:
    """Programs load (or fail with ``number``); maps and links can be made."""

    def answer(_call):
        return -number if number else kernel.new_fd()

    for command in ("BPF_PROG_LOAD", "BPF_MAP_CREATE", "BPF_LINK_CREATE", "BPF_RAW_TRACEPOINT_OPEN", "BPF_BTF_LOAD", "BPF_ENABLE_STATS"):
        kernel.on_bpf(command, answer)
    return kernel


def test_yes_closes_what_it_made():
    kernel = loading(machine())
    assert Features(kernel).has("ringbuf")
    assert kernel.open_fds == set()
    (attribute,) = kernel.bpf_calls("BPF_MAP_CREATE")
    assert bpf_field(abi.MAP_CREATE, "map_type", attribute) == abi.BPF_MAP_TYPE_RINGBUF


def test_all_questions_can_be_asked_of_a_machine_that_answers_nothing():
    asked = Features(FakeKernel({}))
    for name in all_names():
        answer = asked.answer(name)
        assert answer.state in ("no", "unknown"), name
        assert answer.reason and answer.cause, name


def test_unknown_names_are_errors():
    for name in ("nosuch", "map:nosuch", "program:", "helper:kprobe:nosuch", "helper:x:loop", "other:thing"):
        with pytest.raises(KeyError):
            Features(loading(machine())).answer(name)


@pytest.mark.parametrize(
    ("kernel", "number", "cause", "words"),
    [
        (machine(caps="0", uid=1000), errno.EPERM, "capability:bpf,perfmon", "lacks CAP_BPF and CAP_PERFMON"),
        (machine(caps=f"{1 << 39:x}", uid=1000), errno.EPERM, "capability:perfmon", "lacks CAP_PERFMON"),
        (machine(), errno.EPERM, "policy", "refused by policy"),
        (machine(**{"/s/lockdown": "none integrity [confidentiality]"}), errno.EPERM, "lockdown", "locked down"),
        (machine(seccomp=2), errno.EPERM, "seccomp", "seccomp"),
        (machine(), errno.EINVAL, "kernel", "EINVAL"),
        (machine(config="# CONFIG_A is not set\n"), errno.EOPNOTSUPP, "config:CONFIG_A,CONFIG_B", "CONFIG_A and CONFIG_B are not set"),
        (machine(config="CONFIG_X=y\n"), errno.EOPNOTSUPP, "kernel", ""),
        (machine(config="CONFIG_A=y\nCONFIG_B=m\n"), errno.EOPNOTSUPP, "kernel", ""),
        (machine(), errno.ENOMEM, "moment", "could not tell"),
        (machine(), errno.EMFILE, "moment", "could not tell"),
        (machine(**{"/proc/self/uid_map": "0 1000 1\n"}), errno.EPERM, "capability:bpf,perfmon", "user namespace"),
    ],
)
def test_what_a_refusal_means(kernel, number, cause, words):
    found = Asking(kernel, Features(kernel)).no("call()", number, options=("CONFIG_A", "CONFIG_B"))
    assert (found.cause, found.errno) == (cause, number) and words in found.reason and "call()" in found.reason + found.tried
    assert found.state == ("unknown" if cause == "moment" else "no")


def test_cap_sys_admin_stands_for_the_others():
    kernel = machine(caps=f"{1 << 21:x}")
    assert Asking(kernel, Features(kernel)).no("call()", errno.EPERM).cause == "policy"


def test_a_lack_of_privilege_does_not_hide_a_missing_option():
    kernel = loading(
        machine(caps="0", uid=1000, config="CONFIG_BPF_SYSCALL=y\nCONFIG_BPF_EVENTS=y\n# CONFIG_KPROBES is not set\n"), errno.EPERM
    )
    asked = Features(kernel)
    assert asked.answer("kprobe_multi").cause == "config:CONFIG_KPROBES,CONFIG_FPROBE"
    assert asked.answer("raw_tracepoint").cause == "capability:bpf,perfmon"


def test_one_refused_type_among_accepted_ones_is_policy():
    """fentry fails with EPERM while a BTF tracepoint of the same program type loads: that is no lack of privilege."""
    kernel = machine(**{"/sys/kernel/btf/vmlinux": _btf({"bpf_fentry_test1": 12, "btf_trace_sched_process_exit": 8})})

    def load(call):
        attached = bpf_field(abi.PROG_LOAD, "expected_attach_type", call.args[1])
        return -errno.EPERM if attached == abi.BPF_TRACE_FENTRY else kernel.new_fd()

    kernel.on_bpf("BPF_PROG_LOAD", load)
    kernel.on_bpf("BPF_RAW_TRACEPOINT_OPEN", lambda call: kernel.new_fd())
    asked = Features(kernel)
    found = asked.answer("fentry")
    assert (found.state, found.cause, found.errno) == ("no", "policy", errno.EPERM)
    assert "BTF tracepoint is accepted" in found.reason
    assert asked.has("tp_btf")
    ids = [bpf_field(abi.PROG_LOAD, "attach_btf_id", attribute) for attribute in kernel.bpf_calls("BPF_PROG_LOAD")]
    assert set(ids) == {0, 2, 3}  # the function and the typedef, as numbered by their place


def test_a_program_that_loads_but_cannot_be_attached_is_no():
    kernel = machine(**{"/sys/kernel/btf/vmlinux": _btf({"bpf_fentry_test1": 12})})
    kernel.on_bpf("BPF_PROG_LOAD", lambda call: kernel.new_fd())
    kernel.on_bpf("BPF_RAW_TRACEPOINT_OPEN", -524)
    found = Features(kernel).answer("fentry")
    assert found.state == "no" and "ENOTSUPP" in found.reason
    assert kernel.open_fds == set()


def _btf(names: dict[str, int]) -> bytes:
    """BTF with an int and a record of each (name, kind) behind it."""
    import struct

    strings, types = b"\0int\0", struct.pack("<4I", 1, 1 << 24, 4, 32)
    for name, kind in names.items():
        types += struct.pack("<3I", len(strings), kind << 24, 1)
        strings += name.encode() + b"\0"
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings


def test_hostile_btf_ends_the_walk():
    kernel = loading(machine(**{"/sys/kernel/btf/vmlinux": _btf({"bpf_fentry_test1": 31})}))
    assert Features(kernel).answer("fentry").state != "yes"


def test_helpers_are_told_by_the_verifiers_words():
    kernel = machine()

    def load(call):
        log = call.args[1].at(abi.PROG_LOAD["log_buf"][0])
        text = {4: b"unknown func bpf_nothing#4\n", 3: b"R1 type=ctx expected=map_ptr\n"}
        insns = bpf_field(abi.PROG_LOAD, "insns", call.args[1])
        number = int.from_bytes(insns[4:8], "little")
        if insns[0] != 0x85:
            return kernel.new_fd()
        if log is not None:
            log[: len(text[number])] = text[number]
        return -errno.EINVAL if number == 4 else -errno.EACCES

    kernel.on_bpf("BPF_PROG_LOAD", load)
    asked = Features(kernel)
    assert asked.answer("helper:kprobe:map_delete_elem").state == "yes"
    refused = asked.answer("helper:kprobe:probe_read")
    assert refused.state == "no" and "unknown func" in refused.reason


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARKEN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir(mode=0o700)
    return tmp_path / "cache"


def counted(kernel: FakeKernel) -> int:
    return len(kernel.bpf_calls("BPF_MAP_CREATE"))


def test_yes_and_no_are_remembered(cache):
    kernel = loading(machine())
    assert Features(kernel, cached=True).has("ringbuf")
    again = Features(loading(machine()), cached=True)
    assert again.has("ringbuf") and counted(again.kernel) == 0
    assert again.answer("ringbuf", fresh=True).state == "yes" and counted(again.kernel) == 1


def test_answers_survive_with_all_their_fields(cache):
    kernel = loading(machine())
    kernel.on_bpf("BPF_MAP_CREATE", -errno.EINVAL)
    first = Features(kernel, cached=True).answer("ringbuf")
    assert first.state == "no"
    assert Features(machine(), cached=True).answer("ringbuf") == first


def test_unknown_is_never_remembered(cache):
    kernel = loading(machine())
    kernel.on_bpf("BPF_MAP_CREATE", -errno.ENOMEM)
    assert Features(kernel, cached=True).answer("ringbuf").state == "unknown"
    assert Features(loading(machine()), cached=True).has("ringbuf")


@pytest.mark.parametrize(
    "other",
    [
        {"caps": "0"},
        {"uid": 1000},
        {"seccomp": 2},
        {"/proc/self/uid_map": "0 1000 1\n"},
        {"/proc/sys/kernel/random/boot_id": "ffffffff-d09c-4186-b79e-5f2a2e29d613\n"},
        {"/proc/sys/kernel/perf_event_paranoid": "4"},
    ],
)
def test_answers_belong_to_the_boot_and_the_privileges(cache, other):
    assert Features(loading(machine()), cached=True).has("ringbuf")
    elsewhere = loading(machine(**other))
    Features(elsewhere, cached=True).answer("ringbuf")
    assert counted(elsewhere) == 1


def test_a_refusal_by_policy_is_believed_for_a_while(cache, monkeypatch):
    kernel = loading(machine())
    kernel.on_bpf("BPF_MAP_CREATE", -errno.EPERM)
    assert Features(kernel, cached=True).answer("ringbuf").cause == "policy"
    now = features.time.time()
    soon = loading(machine())
    assert Features(soon, cached=True).answer("ringbuf").cause == "policy" and counted(soon) == 0
    monkeypatch.setattr(features.time, "time", lambda: now + 601)
    assert Features(loading(machine()), cached=True).has("ringbuf")


def test_a_damaged_cache_costs_time_only(cache):
    assert Features(loading(machine()), cached=True).has("ringbuf")
    for file in cache.iterdir():
        data = file.read_bytes()
        for spoiled in (data[: len(data) // 2], data.replace(b"yes", b"maybe"), b"", data.replace(b"\t", b" ")):
            file.write_bytes(spoiled)
            assert Features(loading(machine()), cached=True).has("ringbuf")


def test_tables_agree():
    for name in OPTIONS:
        assert name in NAMES or name.partition(":")[0] in ("map", "program"), name
    assert Answer("no") == Answer("no", "", 0, "", "")


def test_target():
    kernel = loading(machine())
    name, found = Features(kernel).target()
    assert name == "x86_64" and {"ringbuf", "jmp32", "bpf_loop", "btf_func"} <= set(found) and "no such name" not in found
    refused = loading(machine(), errno.EINVAL)
    assert not set(Features(refused).target()[1])


def test_target_asks_for_what_is_wanted():
    kernel = loading(machine())
    found = Features(kernel).target()[1]
    assert counted(kernel) == 0 and "ringbuf" in found and counted(kernel) == 1
    assert len(kernel.bpf_calls("BPF_PROG_LOAD")) == 1  # whether there is bpf(2) at all


def test_answers_of_the_running_kernel_are_kept_at_the_end(cache, monkeypatch):
    monkeypatch.setattr(features, "LinuxKernel", FakeKernel)
    kernel = loading(machine())
    assert Features(kernel).has("ringbuf") and not list(cache.iterdir())
    features.keep()
    again = loading(machine())
    assert Features(again).has("ringbuf") and counted(again) == 0
    features.keep()


@pytest.mark.parametrize("other", [{"caps": "0"}, {"uid": 1000}, {"seccomp": 2}])
def test_answers_of_a_process_that_gave_up_privileges_are_not_kept(cache, monkeypatch, other):
    """Nobody can tell any more which of them were found under which."""
    monkeypatch.setattr(features, "LinuxKernel", FakeKernel)
    kernel = loading(machine())
    asked = Features(kernel)
    assert asked.has("ringbuf")
    kernel.files.update(machine(**other).files)
    kernel.on_bpf("BPF_PROG_LOAD", -errno.EPERM)
    assert asked.answer("jmp32").state == "no"
    features.keep()
    assert not list(cache.iterdir())
    assert Features(loading(machine())).has("jmp32")
    features.keep()
