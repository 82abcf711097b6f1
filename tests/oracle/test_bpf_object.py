"""Object files held against bpftool (libbpf), readelf and llvm-objdump; objects that clang built, read and written again."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess

import pytest

from harken.base.diagnostics import Source
from harken.formats.bpf_object import read, write
from harken.session.api import build

pytestmark = [pytest.mark.oracle, pytest.mark.kernel]

PROGRAMS = {
    "tracepoint": 'tracepoint:syscalls:sys_enter_getppid { printf("%s %d\\n", comm, pid); @calls[comm] = count(); @h = hist(tid); }',
    "rawtracepoint": "rawtracepoint:sched_switch { @x[kstack(4)] = sum(1); $i = 0; while ($i < 100) { $i++; @y[$i] = $i; } }",
}


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


@pytest.fixture
def pins(tmp_path):
    """A bpf file system of our own."""
    place = tmp_path / "bpf"
    place.mkdir()
    if run("mount", "-t", "bpf", "bpf", str(place)).returncode:
        pytest.skip("no bpf file system can be mounted here")
    yield place
    run("umount", str(place))


@pytest.mark.program("bpftool")
@pytest.mark.parametrize("kind", PROGRAMS)
def test_bpftool_loads_what_we_write(kind, tmp_path, pins):
    path = tmp_path / "program.bpf.o"
    spec = build(Source("test", PROGRAMS[kind])).spec
    path.write_bytes(write(spec))
    done = run("bpftool", "prog", "load", str(path), str(pins / "program"))
    assert done.returncode == 0, done.stderr
    shown = json.loads(run("bpftool", "--json", "prog", "show", "pinned", str(pins / "program")).stdout)
    assert shown["type"] == ("tracepoint" if kind == "tracepoint" else "raw_tracepoint") and shown["name"] == spec.programs[0].name[:15]
    assert len(shown["map_ids"]) == len({reloc.symbol for reloc in spec.programs[0].relocs})
    text = run("bpftool", "prog", "dump", "xlated", "pinned", str(pins / "program")).stdout
    assert PROGRAMS[kind].split("{")[0].strip() in text  # the user's line


@pytest.mark.program("readelf")
@pytest.mark.parametrize("kind", PROGRAMS)
def test_readelf_finds_no_fault(kind, tmp_path):
    path = tmp_path / "program.bpf.o"
    path.write_bytes(write(build(Source("test", PROGRAMS[kind])).spec))
    done = run("readelf", "-aW", str(path))
    assert done.returncode == 0 and not done.stderr
    assert "R_BPF_INSN_64" in done.stdout and ".BTF.ext" in done.stdout


@pytest.mark.program("llvm-objdump")
def test_llvm_disassembles_it(tmp_path):
    path = tmp_path / "program.bpf.o"
    path.write_bytes(write(build(Source("test", PROGRAMS["tracepoint"])).spec))
    done = run("llvm-objdump", "-dr", str(path))
    assert done.returncode == 0 and "R_BPF_64_64" in done.stdout and "exit" in done.stdout


def objects_in(path):
    """BPF objects that a program on libbpf carries in itself."""
    with open(path, "rb") as file:
        data = file.read()
    place = data.find(b"\x7fELF", 4)
    while place > 0:
        if data[place + 18 : place + 20] == b"\xf7\0":
            (start,), (count,) = struct.unpack_from("<Q", data, place + 40), struct.unpack_from("<H", data, place + 60)
            yield data[place : place + start + 64 * count]
        place = data.find(b"\x7fELF", place + 4)


@pytest.mark.skipif(not os.path.exists("/usr/share/doc/libbpf-tools"), reason="needs Debian's libbpf-tools")
@pytest.mark.parametrize("name", ["runqlat", "tcplife", "execsnoop", "biolatency", "ksnoop", "sigsnoop", "klockstat", "memleak"])
def test_objects_of_clang(name):
    where = shutil.which(name, path="/usr/sbin")
    if where is None:
        pytest.skip(f"{name} is not in this version of libbpf-tools")
    found = list(objects_in(where))
    assert found
    for data in found:
        before = read(data, name, ignore_core=True)
        assert before.programs and before.maps
        after = read(write(before), name)
        assert after.programs == before.programs
        bare = [sorted((m.replace(key_type=0, value_type=0) for m in s.maps), key=lambda m: m.name) for s in (before, after)]
        assert bare[0] == bare[1]
