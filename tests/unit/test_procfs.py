"""procfs, mounts and the build configuration: parsing what a hostile or half-visible /proc says."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.kernel import config, mounts, procfs, procfs_process
from harken.testing.fake_kernel import FakeKernel


def link_answer(targets: dict[str, bytes]):
    """readlinkat for the given paths."""

    def answer(call):
        target = targets.get(call.args[1].rstrip(b"\0").decode())
        if target is None:
            return -2
        call.args[2][: len(target)] = target
        return len(target)

    return answer


@given(st.sets(st.integers(0, 8191), max_size=40))
def test_cpu_lists_round_trip(cpus):
    ordered = sorted(cpus)
    ranges: list[list[int]] = []
    for cpu in ordered:
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    text = ",".join(f"{low}-{high}" if low != high else str(low) for low, high in ranges)
    assert procfs.parse_cpu_list(text + "\n") == tuple(ordered)


@pytest.mark.parametrize("text", ["0-99999999", "3-1", "x", "1-", "-1"])
def test_cpu_lists_that_are_none_raise_at_once(text):
    with pytest.raises(ValueError):
        procfs.parse_cpu_list(text)


def test_cpus_without_sysfs_come_from_cpuinfo():
    kernel = FakeKernel({"/proc/cpuinfo": "processor\t: 0\nflags\t: fpu\n\nprocessor\t: 1\n"})
    assert procfs.cpus_possible(kernel) == (0, 1)
    assert procfs.cpus_online(FakeKernel({})) == (0,)


def test_a_process_name_cannot_forge_fields():
    stat = "77 (a) R 1 1 ) S 1 77 77 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1"
    kernel = FakeKernel({"/proc/77/stat": stat, "/proc/77/comm": "a) R 1 1 \n"})
    assert procfs_process.start_time(kernel, 77) == 4711
    assert procfs_process.start_time(kernel, 78) is None
    assert procfs_process.comm(kernel, 77) == "a) R 1 1 "


def test_status_and_capabilities():
    text = "Name:\tx\\nUid:\t0\nTgid:\t5\nUid:\t1000\t0\t0\t0\n"
    text += "CapEff:\t000000c000000000\nCapPrm:\t0\nCapBnd:\tff\nSeccomp:\t2\nNSpid:\t900\t5\n"
    kernel = FakeKernel({"/proc/self/status": text, "/proc/900/status": text})
    own = procfs.status(kernel)
    assert own is not None and (own.uid, own.euid, own.seccomp, own.ns_pids) == (1000, 0, 2, (900, 5))
    assert procfs.capabilities(kernel) == {"perfmon", "bpf"}
    assert procfs_process.namespace_pid(kernel, 900) == 5
    assert procfs.status(FakeKernel({"/proc/self/status": "Uid:\tnonsense\n"})) is None
    assert procfs.CAPABILITIES.index("bpf") == 39 and procfs.CAPABILITIES.index("sys_admin") == 21


@pytest.mark.parametrize(
    ("files", "state", "modules"),
    [
        ({"/s/lockdown": "none [integrity] confidentiality\n", "/s/lsm": "lockdown,bpf\n"}, "integrity", ("lockdown", "bpf")),
        ({"/s/lockdown": "[none] integrity confidentiality\n"}, "none", None),
        ({"/s/lsm": "capability"}, "absent", ("capability",)),
        ({"/s/lockdown": PermissionError(13, "Permission denied"), "/s/lsm": "a"}, "", ("a",)),
    ],
)
def test_lockdown_where_securityfs_is_mounted(files, state, modules):
    kernel = FakeKernel({"/proc/self/mounts": "none /s securityfs rw 0 0\n", **files})
    found = procfs.lockdown(kernel)
    assert (found.state, found.modules) == (state, modules)


def test_lockdown_that_cannot_be_told_says_how_to_tell():
    kernel = FakeKernel({"/proc/self/mounts": "proc /proc proc rw 0 0\n"})
    kernel.on("fsopen", -1)
    found = procfs.lockdown(kernel)
    assert found.state == "" and "EPERM" in found.how and "mount -t securityfs" in found.how


def test_a_detached_mount_is_read_and_closed():
    kernel = FakeKernel({"/proc/self/fd/9/lockdown": "none [integrity]\n", "/proc/self/fd/9/lsm": "bpf"})
    kernel.open_fds |= {8, 9}
    kernel.on("fsopen", 8)
    kernel.on("fsconfig", 0)
    kernel.on("fsmount", 9)
    assert procfs.lockdown(kernel).state == "integrity"
    assert kernel.open_fds == set()


def test_limits():
    head = "Limit                     Soft Limit           Hard Limit           Units     \n"
    row = "Max locked memory         8388608              unlimited            bytes     \n"
    assert procfs.limits(FakeKernel({"/proc/self/limits": head + row})) == {"Max locked memory": (8388608, None)}


def test_symbols_are_found_by_whole_name_only():
    text = b"ffff01 T vfs_read\nffff02 t vfs_read.cold\nffff03 t do_vfs_read\nffff04 t vfs_read\t[mod]\n"
    assert procfs.symbol_addresses(FakeKernel({}), ["vfs_read", "read"], text) == {"vfs_read": (0xFFFF01, 0xFFFF04)}


def test_mappings_keep_odd_paths():
    maps = "1000-2000 r-xp 00001000 fe:00 12 /a b/c\\012d (deleted)\n7000-8000 rw-p 00000000 00:00 0\nbroken\n"
    first, second = procfs_process.mappings(FakeKernel({"/proc/7/maps": maps}), 7)
    assert (first.start, first.offset, first.inode, first.path) == (0x1000, 0x1000, 12, "/a b/c\nd (deleted)")
    assert second.path == "" and second.perms == "rw-p"


def test_a_marker_file_alone_is_no_container():
    files = {"/.dockerenv": "", "/proc/self/mounts": "/dev/vda / ext4 rw 0 0\n"}
    kernel = FakeKernel(files)
    kernel.on("readlinkat", link_answer({"/proc/self/ns/pid": b"pid:[4026531836]", "/proc/self/ns/user": b"user:[4026531837]"}))
    assert procfs.container(kernel) == ""
    kernel.on("readlinkat", link_answer({"/proc/self/ns/pid": b"pid:[4026532000]", "/proc/self/ns/user": b"user:[4026531837]"}))
    assert procfs.container(kernel) == "docker"
    kernel.on("readlinkat", link_answer({"/proc/self/ns/pid": b"pid:[4026531836]", "/proc/self/ns/user": b"user:[4026532999]"}))
    assert procfs.container(kernel) == "a user namespace" and not procfs.initial_user_namespace(kernel)


def test_build_id_of_the_kernel():
    notes = (4).to_bytes(4, "little") * 1 + (2).to_bytes(4, "little") + (6).to_bytes(4, "little") + b"Xen\0" + b"ab\0\0"
    notes += (4).to_bytes(4, "little") + (3).to_bytes(4, "little") + (3).to_bytes(4, "little") + b"GNU\0" + b"\1\2\3\0"
    assert procfs.build_id(FakeKernel({"/sys/kernel/notes": notes})) == "010203"
    assert procfs.build_id(FakeKernel({"/sys/kernel/notes": b"\xff" * 40})) == ""


def test_mounts_hidden_by_later_ones_are_not_found():
    found = mounts.parse_mounts("a /t tracefs rw 0 0\nb /t tmpfs rw 0 0\nc /u\\040v tracefs ro,gid=5 0 0\n")
    best = mounts.mount_of(found, "tracefs")
    assert best is not None and best.target == "/u v" and best.read_only
    covered = mounts.parse_mounts("a /sys/kernel/tracing tracefs rw 0 0\nb /sys/kernel tmpfs rw 0 0\nc /sys/kern tmpfs rw 0 0\n")
    assert mounts.mount_of(covered, "tracefs") is None and mounts.mount_of(covered[::2], "tracefs") is covered[0]


def test_configuration_is_decompressed_within_bounds():
    kernel = FakeKernel({"/proc/config.gz": gzip.compress(b"CONFIG_KPROBES=y\n# CONFIG_FPROBE is not set\nCONFIG_HZ=250\n")})
    found = config.config_of(kernel)
    assert (found.source, found.value("CONFIG_HZ"), found.enabled("CONFIG_KPROBES")) == ("/proc/config.gz", "250", True)
    assert found.enabled("CONFIG_FPROBE") is False
    bomb = FakeKernel({"/proc/config.gz": gzip.compress(b"\n" * (64 << 20))})
    assert config.config_of(bomb).values == {}
    damaged = config.config_of(FakeKernel({"/proc/config.gz": b"\x1f\x8b\x08 nonsense"}))
    assert damaged.source == "" and damaged.value("CONFIG_KPROBES") is None


def test_configuration_in_boot():
    def uname(call):
        call.args[0][130:135] = b"6.1-x"
        return 0

    kernel = FakeKernel({"/boot/config-6.1-x": "CONFIG_KPROBES=m\n"})
    kernel.on("uname", uname)
    assert config.config_of(kernel).enabled("CONFIG_KPROBES") is True
