"""symbols.processes: mappings that change, processes that are gone, recordings, containers."""

from __future__ import annotations

import random

import pytest

from harken.symbols.model import Mapping
from harken.symbols.processes import Processes, parse_maps
from harken.testing.fake_kernel import FakeKernel

MAPS = """00400000-00402000 r-xp 00000000 fd:01 11                         /usr/bin/a
7f0000000000-7f0000010000 r--p 00000000 fd:01 12                 /usr/lib/b c.so
7f0000010000-7f0000020000 r-xp 00010000 fd:01 12                 /usr/lib/b c.so
7f0000030000-7f0000031000 rwxp 00000000 00:00 0
7fff00000000-7fff00002000 r-xp 00000000 00:00 0                  [vdso]
"""
STAT = "42 (a) b) S 1 42 42 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {start} 0 0\n"


def kernel(maps: str = MAPS, start: int = 777) -> FakeKernel:
    return FakeKernel({"/proc/42/maps": maps, "/proc/42/stat": STAT.format(start=start), "/proc/42/status": "Uid:\t5\t6\nNSpid:\t42\t3\n"})


def test_mappings_and_lookup():
    spaces = Processes(kernel())
    assert [m.path for m in spaces.mappings(42)] == ["/usr/bin/a", "/usr/lib/b c.so", "/usr/lib/b c.so", "", "[vdso]"]
    found = spaces.find(42, 0x7F0000010010)
    assert found is not None and found.file_offset(0x7F0000010010) == 0x10010 and found.executable and found.inode == 12
    assert spaces.find(42, 0x7F0000020000) is None and spaces.find(42, 0) is None and spaces.find(43, 0x400000) is None
    assert spaces.namespace_pid(42) == 3 and spaces.users(42) == (5, 6)
    assert spaces.mappings(43) == () and not spaces.alive(43)


def test_a_process_that_is_gone_keeps_its_mappings():
    fake = kernel()
    spaces = Processes(fake)
    spaces.mappings(42)
    fake.files.clear()
    assert not spaces.refresh(42)
    assert spaces.find(42, 0x400010).path == "/usr/bin/a" and not spaces.alive(42)


def test_unmapped_files_stay_and_new_ones_appear():
    fake = kernel()
    spaces = Processes(fake)
    spaces.mappings(42)
    first = spaces.changes(42)
    fake.files["/proc/42/maps"] = (
        b"00400000-00401000 r-xp 00000000 fd:01 99 /usr/bin/new\n7e0000000000-7e0000001000 r-xp 00000000 fd:01 13 /usr/lib/d.so\n"
    )
    assert spaces.refresh(42)
    assert spaces.changes(42) > first
    got = [(m.start, m.path) for m in spaces.mappings(42)]
    assert (0x400000, "/usr/bin/new") in got and (0x401000, "/usr/bin/a") in got, "the rest of what was covered"
    assert spaces.find(42, 0x7E0000000000).path == "/usr/lib/d.so"
    assert spaces.find(42, 0x7F0000010010).path == "/usr/lib/b c.so", "unloaded, but samples of it may still come"
    assert spaces.find(42, 0x401010).file_offset(0x401010) == 0x1010


def test_a_pid_that_was_given_away_forgets_the_old_process():
    fake = kernel()
    spaces = Processes(fake)
    spaces.mappings(42)
    fake.files.update(kernel("00500000-00502000 r-xp 00000000 fd:01 50 /usr/bin/z\n", start=900).files)
    spaces.refresh(42)
    assert [m.path for m in spaces.mappings(42)] == ["/usr/bin/z"]


def test_recordings_fork_exec_exit():
    spaces = Processes(None)
    spaces.add(1, Mapping(0x1000, 0x3000, 0, "/bin/sh"))
    spaces.fork(1, 2)
    spaces.fork(1, 1)
    spaces.add(1, Mapping(0x5000, 0x6000, 0, "/lib/later"))
    assert [m.path for m in spaces.mappings(2)] == ["/bin/sh"]
    spaces.exec(2)
    assert spaces.mappings(2) == ()
    spaces.add(2, Mapping(0x1000, 0x2000, 0, "/bin/ls"))
    spaces.exit(2)
    assert spaces.find(2, 0x1800).path == "/bin/ls" and not spaces.alive(2)
    assert spaces.find(1, 0x1800).path == "/bin/sh"


def test_laying_over_against_a_map_of_bytes():
    random.seed(5)
    for _ in range(100):
        spaces, plain = Processes(None), {}
        for number in range(random.randrange(1, 15)):
            start = random.randrange(60)
            end = start + random.randrange(1, 30)
            spaces.add(9, Mapping(start, end, 1000 * number, f"/f{number}"))
            plain.update({address: (f"/f{number}", 1000 * number + address - start) for address in range(start, end)})
        for address in range(95):
            found = spaces.find(9, address)
            assert (None if found is None else (found.path, found.file_offset(address))) == plain.get(address)
        ranges = [(m.start, m.end) for m in spaces.mappings(9)]
        assert ranges == sorted(ranges) and all(one[1] <= two[0] for one, two in zip(ranges, ranges[1:]))


@pytest.mark.parametrize(
    "text", ["", "rubbish\n", "1-2\n", "zz-yy r-xp 0 0:0 0 /x\n", "5-4 r-xp 0 0:0 0 /x\n", "1-2 r-xp 0 0:0 x /x\n", "\0\n\xff\n"]
)
def test_rubbish_in_maps_is_left_out(text):
    assert parse_maps(text.encode("latin-1")) == []


def test_newlines_and_bytes_in_paths():
    found = parse_maps(b"1000-2000 r-xp 0 0:0 1 /a\\012b\xff (deleted)\n")
    assert found[0].path == "/a\nb\udcff (deleted)"
