"""The cache of compiled programs: hits only when everything is as it was; damage is a miss."""

from __future__ import annotations

import marshal
import os
from typing import TYPE_CHECKING, Any

import pytest

from harken.base import cache as disk
from harken.base.schema import Field, Schema
from harken.compiler.unit import Event, Table, Unit
from harken.formats.spec import AttachSpec, MapSpec, ProgramSpec, Reloc, Spec
from harken.session.cache import holds, load_unit, store_unit, unit_key
from harken.testing.fake_kernel import FakeKernel

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "/proc/sys/kernel/random/boot_id": "aaaa-bbbb\n",
    "/proc/self/status": "Name:\tx\nCapEff:\t00000000a80425fb\nCapBnd:\t0\n",
    "/proc/modules": "xfs 1 0 - Live 0x0\next4 2 0 - Live 0x0\n",
    "/sys/kernel/tracing/events/sched/sched_switch/id": "1\n",
}


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("HARKEN_CACHE", str(folder))
    return folder


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel(FILES)


def sample(*depends: tuple[Any, ...]) -> Unit:
    inner = Schema("t", 8, (Field("a", 0, "I", role="enum", detail=((1, "ONE"),)),))
    event = Event("printf", ("%s\n",), Schema("e", 16, (Field("arg0", 8, "r", 1, "tuple", inner),)), "stdin:1:1-5")
    table = Table("@", "AT_", "lhist", Schema("k", 0, ()), Schema("v", 8, (Field("v", 0, "Q"),)), True, (0, 10, 2))
    program = ProgramSpec("p", 5, b"\x95" + bytes(7), (Reloc(0, "map", "m", 4),), (AttachSpec("BEGIN", "run", (1, ("x", b"y"))),))
    spec = Spec((MapSpec("m", 1, 4, 8, 10, 0, ((b"k", b"v"),), True),), (program,), b"btf")
    return Unit(spec, (event,), (table,), (("ring", "0"),), (("begin", "p"),), (("BEGIN", "run", "", ()),), depends, (), (("a", 1),))


def test_what_is_stored_comes_back(kernel: FakeKernel) -> None:
    key = unit_key(kernel, "stdin", "BEGIN {}")
    assert load_unit(kernel, key) is None
    assert store_unit(key, sample())
    assert load_unit(kernel, key) == sample()


def test_everything_that_matters_is_in_the_key(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    types = tmp_path / "types"
    types.write_bytes(b"types")
    keys = {unit_key(kernel, "stdin", "BEGIN {}")}
    assert unit_key(kernel, "stdin", "BEGIN {}") in keys
    for other in (
        lambda: unit_key(kernel, "stdin", "BEGIN { }"),
        lambda: unit_key(kernel, "file.bt", "BEGIN {}"),
        lambda: unit_key(kernel, "stdin", "BEGIN {}", (("1",), -1)),
        lambda: unit_key(FakeKernel({**FILES, "/proc/sys/kernel/random/boot_id": "other\n"}), "stdin", "BEGIN {}"),
        lambda: unit_key(FakeKernel({**FILES, "/proc/self/status": "CapEff:\t0\nCapBnd:\t0\n"}), "stdin", "BEGIN {}"),
        lambda: unit_key(FakeKernel({**FILES, "/proc/self/status": FILES["/proc/self/status"] + "Seccomp:\t2\n"}), "stdin", "BEGIN {}"),
        lambda: unit_key(FakeKernel({**FILES, "/proc/sys/kernel/perf_event_paranoid": "3\n"}), "stdin", "BEGIN {}"),
        lambda: (monkeypatch.setenv("BPFTRACE_MAX_STRLEN", "64"), unit_key(kernel, "stdin", "BEGIN {}"))[1],
        lambda: (monkeypatch.setenv("HARKEN_BTF", str(types)), unit_key(kernel, "stdin", "BEGIN {}"))[1],
        lambda: (types.write_bytes(b"other types"), unit_key(kernel, "stdin", "BEGIN {}"))[1],
        lambda: (monkeypatch.setattr("harken.__version__", "9.9"), unit_key(kernel, "stdin", "BEGIN {}"))[1],
    ):
        key = other()
        assert key not in keys
        keys.add(key)


def test_dependencies(kernel: FakeKernel, tmp_path: Path) -> None:
    path = tmp_path / "binary"
    path.write_bytes(b"x")
    state = os.stat(path)
    file = ("file", str(path), state.st_size, state.st_mtime_ns)
    assert holds(kernel, file)
    path.write_bytes(b"xy")
    assert not holds(kernel, file)
    path.unlink()
    assert not holds(kernel, file)
    assert holds(kernel, ("modules", "ext4 xfs"))
    assert not holds(kernel, ("modules", "ext4"))
    assert holds(kernel, ("boot", "aaaa-bbbb"))
    assert not holds(kernel, ("boot", "cccc"))
    assert holds(kernel, ("tracefs", "sched", "sched_switch"))
    assert not holds(kernel, ("tracefs", "sched", "gone"))
    assert not holds(kernel, ("never",))
    assert not holds(kernel, ("something new", 1))


def test_what_a_file_holds(kernel: FakeKernel, tmp_path: Path) -> None:
    file = tmp_path / "own.h"
    none, one = ("content", str(file), ""), ("content", str(file), disk.digest(b"one"))
    assert holds(kernel, none) and not holds(kernel, one)
    file.write_bytes(b"one")
    assert holds(kernel, one) and not holds(kernel, none)
    file.write_bytes(b"two")
    assert not holds(kernel, one)


def test_a_unit_whose_dependency_changed_is_not_used(kernel: FakeKernel) -> None:
    key = unit_key(kernel, "stdin", "x")
    store_unit(key, sample(("modules", "ext4 xfs")))
    assert load_unit(kernel, key) is not None
    kernel.files["/proc/modules"] = b"ext4 2 0 - Live 0x0\n"
    assert load_unit(kernel, key) is None


def test_damage_is_a_miss(kernel: FakeKernel, private: Path) -> None:
    key = unit_key(kernel, "stdin", "x")
    store_unit(key, sample())
    (file,) = private.iterdir()
    whole = file.read_bytes()
    for damage in (whole[:-1], whole[:40], b"", whole[:-30] + b"\xff" + whole[-29:], whole + b"x"):
        file.write_bytes(damage)
        file.chmod(0o600)
        assert load_unit(kernel, key) is None
        store_unit(key, sample())


@pytest.mark.parametrize("plain", [None, 5, (), (1, 2, 3), tuple(range(9)), ("x",) * 9, {"a": 1}])
def test_a_well_signed_entry_of_another_shape_is_a_miss(kernel: FakeKernel, plain: object) -> None:
    body = marshal.dumps(plain)
    disk.store("unit", "k", disk.digest(body).encode() + body)
    assert load_unit(kernel, "k") is None


def test_without_a_cache_directory_nothing_fails(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARKEN_CACHE", "off")
    key = unit_key(kernel, "stdin", "x")
    assert not store_unit(key, sample())
    assert load_unit(kernel, key) is None
