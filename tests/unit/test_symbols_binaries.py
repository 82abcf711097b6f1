"""symbols.binaries: from names to files, on a made-up file system."""

from __future__ import annotations

import struct

import pytest

from harken.base.errors import FormatError, ProbeError
from harken.kernel.kernel import Call
from harken.symbols.binaries import executables, find, libraries, open_elf, parse_ld_cache, process_binaries
from harken.testing.elf_builder import ElfBuilder
from harken.testing.fake_kernel import FakeKernel

ELF = ElfBuilder().function("exported", 0x401000, 8, dynamic=True).note(".note.gnu.build-id", "GNU", 3, bytes.fromhex("aabbccdd")).build()


class Files(FakeKernel):
    """A fake whose files can be opened and have a size; links are files that start with "->"."""

    def call(self, call: Call) -> int:
        if call.name == "lseek":
            return len(self.files.get(self.fd_paths[call.args[0]], b""))
        if call.name == "readlinkat":
            target = self.files.get(call.args[1].rstrip(b"\0").decode(), b"")
            if not target.startswith(b"->"):
                return -22
            call.args[2][: len(target) - 2] = target[2:]
            return len(target) - 2
        return super().call(call)

    def mmap(self, fd, length, writable=False, offset=0):
        return self.files[self.fd_paths[fd]][:length]


def ld_cache(*entries: tuple[str, str], flags: int = 0x0303, before: bytes = b"") -> bytes:
    strings, table = b"", b""
    start = 48 + 24 * len(entries)
    for soname, path in entries:
        key = start + len(strings)
        strings += soname.encode() + b"\0"
        value = start + len(strings)
        strings += path.encode() + b"\0"
        table += struct.pack("=iIIIQ", flags, key, value, 0, 0)
    head = b"glibc-ld.so.cache1.1" + struct.pack("=II", len(entries), len(strings)) + bytes(20)
    return before + head + table + strings


def system(**more: bytes) -> Files:
    entries = [
        ("libc.so.6", "/lib/libc.so.6"),
        ("libz.so.1", "/lib/libz.so.1"),
        ("libz.so", "/lib/libz.so"),
        ("libgone.so.1", "/lib/libgone.so.1"),
    ]
    files = {
        "/etc/ld.so.cache": ld_cache(*entries),
        "/lib/libc.so.6": ELF,
        "/lib/libz.so.1": ELF,
        "/lib/libz.so": ELF,
        "/usr/bin/tool": ELF,
    }
    return Files({**files, **more})


def test_ld_cache():
    data = ld_cache(("libc.so.6", "/lib/libc.so.6"))
    assert parse_ld_cache(data, "x86_64") == [("libc.so.6", "/lib/libc.so.6")]
    assert parse_ld_cache(b"ld.so-1.7.0" + bytes(9) + data, "x86_64") == [("libc.so.6", "/lib/libc.so.6")]
    assert parse_ld_cache(data, "aarch64") == [] and len(parse_ld_cache(data, "riscv64")) == 1
    for damaged in (b"", b"glibc-ld.so.cache1.1", data[:60], data[:20] + b"\xff\xff\xff\xff" + data[24:], data[:-1]):
        with pytest.raises(FormatError):
            parse_ld_cache(damaged)


@pytest.mark.parametrize("name", ["libc.so.6", "libc", "c", "libc*"])
def test_libraries(name):
    assert libraries(system(), name) == ["/lib/libc.so.6"]


def test_libraries_that_are_not_there():
    kernel = system()
    assert libraries(kernel, "libz") == ["/lib/libz.so.1"]  # libz.so is the linker's name for it
    assert libraries(kernel, "libgone") == [] and libraries(kernel, "lib") == [] and libraries(kernel, "") == []


def test_libraries_without_a_cache():
    kernel = Files({"/usr/lib/x86_64-linux-musl/libfoo.so.2": ELF, "/lib/libc.musl-x86_64.so.1": ELF})
    assert libraries(kernel, "libfoo") == ["/usr/lib/x86_64-linux-musl/libfoo.so.2"]


def test_find(monkeypatch):
    monkeypatch.setenv("PATH", "relative:/nowhere:/usr/bin")
    kernel = system()
    assert find(kernel, "tool") == ["/usr/bin/tool"] and find(kernel, "libc") == ["/lib/libc.so.6"]
    assert find(kernel, "/usr/bin/tool") == ["/usr/bin/tool"] and find(kernel, "/no/such") == []
    assert find(kernel, "/lib/libz*") == ["/lib/libz.so", "/lib/libz.so.1"] and find(kernel, "/*/bin/to*") == ["/usr/bin/tool"]
    assert executables(kernel, "to*") == ["/usr/bin/tool"] and find(kernel, "nothing") == []


def proc(pid: int, mount_namespace: int) -> dict[str, bytes]:
    maps = "1000-2000 r-xp 00000000 08:01 12 /app/server\n2000-3000 r--p 00000000 08:01 12 /app/data\n"
    maps += "3000-4000 r-xp 00000000 08:01 13 /lib/libc.so.6\n4000-5000 r-xp 00000000 00:00 0 [vdso]\n"
    return {
        f"/proc/{pid}/maps": maps.encode(),
        f"/proc/{pid}/ns/mnt": f"->mnt:[{mount_namespace}]".encode(),
        "/proc/self/ns/mnt": b"->mnt:[1]",
        f"/proc/{pid}/root": b"->/",
    }


def test_processes():
    kernel = system(**proc(7, 1))
    assert process_binaries(kernel, 7) == ["/app/server", "/lib/libc.so.6"]
    assert find(kernel, "libc", 7) == ["/lib/libc.so.6"] and find(kernel, "server", 7) == ["/app/server"]
    with pytest.raises(ProbeError, match="process 8"):
        process_binaries(kernel, 8)


def test_processes_in_containers():
    kernel = system(**proc(7, 2), **{"/proc/7/root/app/server": ELF, "/proc/7/root/usr/bin/inner": ELF})
    assert process_binaries(kernel, 7) == ["/proc/7/root/app/server", "/proc/7/root/lib/libc.so.6"]
    assert find(kernel, "/app/server", 7) == ["/proc/7/root/app/server"] and find(kernel, "inner", 7) == ["/proc/7/root/usr/bin/inner"]
    assert find(kernel, "/usr/bin/tool", 7) == []


def test_files_that_were_deleted_or_replaced():
    maps = "1000-2000 r-xp 00000000 08:01 12 /app/server (deleted)\n2000-3000 r-xp 00001000 08:01 12 /app/server (deleted)\n"
    maps += "3000-4000 r-xp 00000000 08:01 13 /lib/libc.so.6\n5000-6000 r-xp 00000000 00:01 9 /SYSV00000000 (deleted)\n"
    kernel = system(**{**proc(7, 1), "/proc/7/maps": maps.encode(), "/app/server": ELF})
    mapping = "/proc/7/map_files/1000-2000"
    assert process_binaries(kernel, 7) == [mapping, "/lib/libc.so.6"]
    # what it runs, not what lies there now; others mean what lies there
    assert find(kernel, "/app/server", 7) == find(kernel, "server", 7) == [mapping] and find(kernel, "/app/server") == ["/app/server"]
    assert find(kernel, "/lib/libc.so.6", 7) == ["/lib/libc.so.6"]


def test_libraries_of_a_process_by_soname(monkeypatch):
    maps = "1000-2000 r-xp 00000000 08:01 12 /app/server\n3000-4000 r-xp 00000000 08:01 13 /opt/libz.so.1.2.13\n"
    maps += "5000-6000 r-xp 00000000 08:01 14 /opt/odd-name.so\n"
    kernel = system(**{**proc(7, 1), "/proc/7/maps": maps.encode(), "/opt/odd-name.so": ELF, "/opt/libz.so.1.2.13": ELF})
    # its own library, not the system's of that name
    assert find(kernel, "libz.so.1", 7) == find(kernel, "libz", 7) == find(kernel, "libz.so.1.2.13", 7) == ["/opt/libz.so.1.2.13"]
    monkeypatch.setattr("harken.formats.elf_dynamic.soname", lambda elf: "libodd.so.4" if "odd" in elf.what else "")
    assert find(kernel, "libodd.so.4", 7) == ["/opt/odd-name.so"] and find(kernel, "libodd.so.5", 7) == []


def test_open_elf():
    kernel = system(**{"/lib/text": b"hello, this is text", "/lib/empty": b""})
    assert open_elf(kernel, "/usr/bin/tool").build_id == "aabbccdd" and not kernel.open_fds
    with pytest.raises(ProbeError, match="cannot open"):
        open_elf(kernel, "/no/such")
    for path in ("/lib/text", "/lib/empty"):
        with pytest.raises(FormatError):
            open_elf(kernel, path)
    assert not kernel.open_fds


@pytest.mark.parametrize("root", ["", "/proc/7/root"])
def test_debug_files(root):
    debug = ElfBuilder().function("hidden", 0x401010, 8).note(".note.gnu.build-id", "GNU", 3, bytes.fromhex("aabbccdd")).build()
    wrong = ElfBuilder().function("wrong", 0x401010, 8).note(".note.gnu.build-id", "GNU", 3, bytes.fromhex("ffff")).build()
    place = "/usr/lib/debug/.build-id/aa/bbccdd.debug"
    path = f"{root}/usr/bin/tool"
    assert open_elf(system(**{path: ELF, root + place: debug}), path).symbol("hidden").value == 0x401010
    assert open_elf(system(**{path: ELF, root + place: wrong}), path).symbol("wrong") is None
