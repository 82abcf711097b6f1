"""``harken map`` and ``harken prog`` on live objects, with types and without; held against bpftool where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from harken.abi import bpf as abi
from harken.base.ctype import Array, Enum, Int, Member, Struct
from harken.base.errors import UsageError
from harken.cli.commands import map as map_command
from harken.cli.commands import prog as prog_command
from harken.formats.btf_types import TypeWriter
from harken.formats.insn import R0, encode, exit_, mov64
from harken.formats.spec import MapSpec, ProgramSpec, Spec
from harken.kernel.kernel import live
from harken.kernel.loader import load

pytestmark = pytest.mark.kernel

CODE = encode([mov64(R0, imm=7), exit_()])
U32, U64, CHAR = Int("unsigned int", 4, False), Int("unsigned long long", 8, False), Int("char", 1, True, "char")
KEY = Struct(
    "hk_key",
    24,
    (Member("pid", U32, 0), Member("kind", Enum("hk_kind", 4, {"READ": 0, "WRITE": 1}), 32), Member("comm", Array(CHAR, 16), 64)),
)


@pytest.fixture
def loaded():
    writer = TypeWriter()
    key, value = writer.ctype(KEY), writer.ctype(U64)
    small = writer.ctype(U32)
    function = writer.function("hk_program")
    spec = Spec(
        (
            MapSpec("hk_plain", abi.BPF_MAP_TYPE_HASH, 4, 8, 10),
            MapSpec("hk_typed", abi.BPF_MAP_TYPE_HASH, 24, 8, 10, key_type=key, value_type=value),
            MapSpec("hk_cpus", abi.BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, 2, key_type=small, value_type=value),
            MapSpec("hk_queue", abi.BPF_MAP_TYPE_QUEUE, 0, 4, 4),
        ),
        (
            ProgramSpec("hk_program", abi.BPF_PROG_TYPE_SOCKET_FILTER, CODE, func_info=writer.func_info([(0, function)])),
        ),
        writer.data(),
    )  # fmt: skip
    with load(live(), spec) as objects:
        yield objects


def run(capsys, *words):
    status = map_command.run(words)
    return status, capsys.readouterr().out


def test_bytes(loaded, capsys):
    assert run(capsys, "update", "hk_plain", "key", "1", "value", "0x10")[0] == 0
    assert run(capsys, "update", "hk_plain", "key", "hex", "02", "00", "00", "00", "value", *"1 2 3 4 5 6 7 8".split())[0] == 0
    assert run(capsys, "lookup", "hk_plain", "key", "1") == (0, "key: 01 00 00 00  value: 10 00 00 00 00 00 00 00\n")
    status, text = run(capsys, "dump", "hk_plain")
    assert status == 0 and "key: 02 00 00 00  value: 01 02 03 04 05 06 07 08" in text and text.endswith("Found 2 elements\n")
    assert run(capsys, "lookup", "hk_plain", "key", "9")[0] == 1
    with pytest.raises(UsageError, match="already"):
        map_command.run(("update", "hk_plain", "key", "1", "value", "1", "noexist"))
    with pytest.raises(UsageError, match="no such key"):
        map_command.run(("delete", "hk_plain", "key", "9"))
    assert run(capsys, "delete", "hk_plain", "key", "1")[0] == 0
    assert run(capsys, "clear", "hk_plain")[0] == 0
    assert run(capsys, "--json", "dump", "hk_plain") == (0, "[]\n")


def test_types(loaded, capsys):
    assert run(capsys, "update", "hk_typed", "key", '{"pid": 7, "kind": "WRITE", "comm": "bash"}', "value", "42")[0] == 0
    _, text = run(capsys, "dump", "hk_typed")
    shown = json.loads(text)
    assert shown == [{"key": {"pid": 7, "kind": "WRITE", "comm": "bash"}, "value": 42}]
    _, text = run(capsys, "--json", "dump", "hk_typed")
    assert json.loads(text)[0]["formatted"] == shown[0] and json.loads(text)[0]["value"][0] == "0x2a"
    with pytest.raises(UsageError, match="no member 'pidd'"):
        map_command.run(("lookup", "hk_typed", "key", '{"pidd": 7}'))


def test_one_value_per_cpu(loaded, capsys):
    loaded.maps["hk_cpus"].update((1).to_bytes(4, "little"), (5).to_bytes(8, "little"))
    _, text = run(capsys, "dump", "hk_cpus")
    assert json.loads(text)[1]["values"][0] == {"cpu": 0, "value": 5}


def test_queue(loaded, capsys):
    run(capsys, "push", "hk_queue", "value", "7")
    run(capsys, "push", "hk_queue", "value", "8")
    assert run(capsys, "peek", "hk_queue") == (0, "value: 07 00 00 00\n")
    assert run(capsys, "pop", "hk_queue")[0] == 0
    assert run(capsys, "pop", "hk_queue") == (0, "value: 08 00 00 00\n")
    assert run(capsys, "pop", "hk_queue")[0] == 1


def test_programs(loaded, capsys):
    number = loaded.programs["hk_program"].id
    assert prog_command.run(("list", str(number), "--json")) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["name"] == "hk_program" and shown["type"] == "socket_filter" and "jited" in shown
    assert prog_command.run(("dump", "xlated", "id", str(number))) == 0
    assert "r0 = 7" in capsys.readouterr().out
    with pytest.raises(UsageError, match="there is no program with name hk_nothing"):
        prog_command.run(("list", "hk_nothing"))


@pytest.mark.oracle
@pytest.mark.program("bpftool")
def test_as_bpftool_shows_it(loaded, capsys):
    run(capsys, "update", "hk_plain", "key", "1", "value", "16")
    run(capsys, "update", "hk_typed", "key", '{"pid": 7, "kind": "WRITE", "comm": "bash"}', "value", "42")

    def bpftool(*words):
        return subprocess.run([shutil.which("bpftool"), *words], capture_output=True, text=True, timeout=60).stdout

    for name in ("hk_plain", "hk_cpus"):
        assert json.loads(run(capsys, "--json", "dump", "name", name)[1]) == json.loads(bpftool("-j", "map", "dump", "name", name))
    assert run(capsys, "dump", "hk_plain")[1] == bpftool("map", "dump", "name", "hk_plain")
    typed = json.loads(bpftool("-j", "map", "dump", "name", "hk_typed"))
    assert json.loads(run(capsys, "--json", "dump", "hk_typed")[1])[0]["formatted"] == typed[0]["formatted"]
    for name in ("hk_plain", "hk_typed", "hk_queue"):
        mine, theirs = run(capsys, "list", name)[1], bpftool("map", "show", "name", name)
        assert [line for line in mine.splitlines() if "pids" not in line] == [line for line in theirs.splitlines() if "pids" not in line]
