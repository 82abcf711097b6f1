"""symbols.symbolizer: this process, files, recordings, generated code, debug files; harken symbolize."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import mmap
import os
import subprocess
import sys

import pytest

from harken.cli.commands import symbolize
from harken.kernel.kernel import live
from harken.symbols import debug_files, demangle
from harken.symbols.kernel_symbols import KernelSymbols
from harken.symbols.model import Mapping
from harken.symbols.processes import Processes
from harken.symbols.symbolizer import Symbolizer
from harken.symbols.symbolizer_images import Images
from harken.testing.elf_builder import ElfBuilder
from harken.testing.fake_kernel import FakeKernel

SELF = os.getpid()


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HARKEN_CACHE", str(tmp_path_factory.mktemp("cache")))


def address_of(name: str) -> int:
    return ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value or 0


@pytest.fixture
def program(tmp_path):
    """A file with functions at 0x401000 and 0x401100, its text at offset 4096, and its mapping in process 7 of a recording."""
    path = tmp_path / "program"
    note = ElfBuilder().function("main", 0x401000, 0x80).function("_ZN3foo3barEi", 0x401100, 0x80)
    path.write_bytes(note.note(".note.gnu.build-id", "GNU", 3, bytes.fromhex("ab" * 20)).build())
    return str(path)


def recorded(path: str, build_id: str = "", **options: object) -> Symbolizer:
    symbolizer = Symbolizer(live(), processes=Processes(None), kernel_symbols=KernelSymbols(None, b"ffffffff81000000 T do_it\n"), **options)
    symbolizer.processes.add(7, Mapping(0x7F0000000000, 0x7F0000001000, 4096, path, 0, "", build_id))
    return symbolizer


def test_functions_of_this_process():
    with Symbolizer(live()) as symbolizer:
        frame = symbolizer.user(SELF, address_of("getpid") + 2)[0]
        assert frame.label.strip("_") == "getpid+0x2" and "libc" in frame.module and frame.start == address_of("getpid")
        assert symbolizer.many(SELF, [address_of("getpid") + 2]) == [frame]
        assert symbolizer.user(SELF, 8)[0].kind == "unknown"
        assert address_of("getpid") in symbolizer.addresses("getpid", pid=SELF)


def test_the_vdso():
    with Symbolizer(live()) as symbolizer:
        places = [mapping for mapping in symbolizer.processes.mappings(SELF) if mapping.path == "[vdso]"]
        if not places:
            pytest.skip("no [vdso] here")
        symbols = symbolizer.addresses("__vdso_clock_gettime", pid=SELF) or symbolizer.addresses("__kernel_clock_gettime", pid=SELF)
        assert symbols and "clock_gettime" in symbolizer.user(SELF, symbols[0])[0].name


def test_recordings_demangling_and_parameters(program):
    pytest.importorskip("demangle")
    base = 0x7F0000000000
    symbolizer = recorded(program)
    frames = symbolizer.many(7, [base + 4, base + 0x104, base + 4, 0xFFFFFFFF81000004, base + 0x90, 5])
    assert [frame.label for frame in frames] == ["main+0x4", "foo::bar(int)+0x4", "main+0x4", "do_it+0x4", f"{base + 0x90:#x}", "0x5"]
    assert frames[0] is frames[2] and frames[1].start == base + 0x100 and frames[0].build_id == "ab" * 20 and frames[4].module == program
    assert recorded(program, parameters=False).user(7, base + 0x104)[0].name == "foo::bar"
    assert recorded(program, demangle=False).user(7, base + 0x104)[0].name == "_ZN3foo3barEi"
    assert [frame.name for frame in symbolizer.file(program, 0x401104)] == ["foo::bar(int)"]


def test_all_ways_agree(program):
    base = 0x7F0000000000
    symbolizer = recorded(program, demangle=False)
    addresses = sorted([base + offset for offset in range(0, 0x400, 3)] * 2 + [0xFFFFFFFF81000000 + 5 * i for i in range(9)] + [1, 1, 99])
    frames = symbolizer.many(7, addresses)
    assert frames == [symbolizer.resolve(7, address)[0] for address in addresses]
    assert frames == [span.frame(address) for address, span in zip(addresses, symbolizer.spans(7, addresses))]
    got, place = [], 0
    for end, span in symbolizer.runs(7, addresses):
        assert end > place
        got += [span.frame(address) for address in addresses[place:end]]
        place = end
    assert got == frames


def test_return_addresses_belong_to_the_call_before_them(program):
    symbolizer = recorded(program, demangle=False)
    base = 0x7F0000000000
    got = [frame.label for frame in symbolizer.stack(7, [base + 0x100, base + 0x80, base + 0x101])]
    assert got == ["_ZN3foo3barEi", "main+0x80", "_ZN3foo3barEi+0x1"], "a call at the very end of main"
    kernel = KernelSymbols(None, b"ffffffff81000000 T die\nffffffff81000100 T next\n")
    stack = Symbolizer(None, kernel_symbols=kernel).stack(-1, [0xFFFFFFFF81000100, 0xFFFFFFFF81000100], user=False)
    assert [frame.label for frame in stack] == ["next", "die+0x100"]
    # what a signal interrupted is an instruction of its own, and no call
    got = [frame.label for frame in symbolizer.stack(7, [base + 0x4, base + 0x100, base + 0x80], exact=(0, 1))]
    assert got == ["main+0x4", "_ZN3foo3barEi", "main+0x80"]


def test_another_build_of_a_file_gives_no_names(program):
    assert recorded(program, "ab" * 20).user(7, 0x7F0000000004)[0].name == "main"
    symbolizer = recorded(program, "cd" * 20)
    frame = symbolizer.user(7, 0x7F0000000004)[0]
    assert frame.name == "" and frame.module == program and frame.label == "0x7f0000000004"
    assert "another build" in symbolizer.problems[program]


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"no ELF file at all" * 100, None])
def test_files_that_are_none_give_addresses_and_a_reason(tmp_path, content):
    path = str(tmp_path / "file")
    if content is not None:
        with open(path, "wb") as file:
            file.write(content)
    symbolizer = recorded(path)
    frame = symbolizer.user(7, 0x7F0000000004)[0]
    assert (frame.name, frame.module) == ("", path) and symbolizer.problems[path]
    assert [span.name for span in symbolizer.spans(7, [0x7F0000000004, 0x7F0000000005])] == ["", ""]


@pytest.mark.parametrize("path", ["/memfd:generated (deleted)", "/memfd:generated"])
def test_memory_of_a_recorded_process_is_told_to_be_that(path):
    images = Images(live())
    image = images.of_mapping(7, Mapping(0x7F0000000000, 0x7F0000001000, 0, path, executable=True), Processes(None))
    assert image.table is None and list(images.problems) == [path]
    assert "memfd_create" in images.problems[path] and "cannot open" not in images.problems[path]


def test_tables_are_kept_until_a_file_changes(program, monkeypatch):
    from harken.symbols import binaries, symbolizer_images

    monkeypatch.setattr(symbolizer_images, "_WORTH_KEEPING", -1)
    assert recorded(program).user(7, 0x7F0000000004)[0].name == "main"
    with monkeypatch.context() as context:
        context.setattr(binaries, "open_elf", lambda *_a, **_k: pytest.fail("the file was read again"))
        assert recorded(program).user(7, 0x7F0000000004)[0].name == "main"
    with open(program, "wb") as file:
        file.write(ElfBuilder().function("renamed", 0x401000, 0x80).build())
    assert recorded(program).user(7, 0x7F0000000004)[0].name == "renamed"


def test_a_debug_file_that_comes_later_is_seen(tmp_path, monkeypatch):
    from harken.symbols import symbolizer_images

    monkeypatch.setattr(symbolizer_images, "_WORTH_KEEPING", -1)
    build_id = "12" * 20
    note = (".note.gnu.build-id", "GNU", 3, bytes.fromhex(build_id))
    stripped = tmp_path / "stripped"
    link = b"stripped.debug".ljust(16, b"\0") + bytes(4)
    stripped.write_bytes(ElfBuilder().function("exported", 0x401000, 8, dynamic=True).note(*note).section(".gnu_debuglink", link).build())
    assert recorded(str(stripped)).user(7, 0x7F0000000014)[0].name == ""
    (tmp_path / "stripped.debug").write_bytes(ElfBuilder().function("static_function", 0x401010, 8).note(*note).build())
    assert recorded(str(stripped)).user(7, 0x7F0000000014)[0].name == "static_function"
    (tmp_path / "stripped.debug").write_bytes(ElfBuilder().function("of_another_build", 0x401010, 8).build())
    assert recorded(str(stripped)).user(7, 0x7F0000000014)[0].name == ""


def test_generated_code(tmp_path):
    place = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    start = ctypes.addressof(ctypes.c_char.from_buffer(place))
    path = f"/tmp/perf-{SELF}.map"
    try:
        with Symbolizer(live()) as symbolizer:
            assert symbolizer.user(SELF, start + 4)[0].name == ""
        with open(path, "w") as file:
            file.write(f"{start:x} 40 LazyCompile:f\n")
        with Symbolizer(live()) as symbolizer:
            frame = symbolizer.user(SELF, start + 4)[0]
            assert (frame.label, frame.module, frame.kind) == ("LazyCompile:f+0x4", path, "jit")
            assert [span.name for span in symbolizer.spans(SELF, [start + 4, start + 0x3F, start + 0x40])] == [frame.name, frame.name, ""]
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def test_a_process_that_has_exited():
    child = subprocess.Popen([sys.executable, "-S", "-c", "print(1, flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout and child.stdout.readline()
    with Symbolizer(live()) as symbolizer:
        places = symbolizer.processes.mappings(child.pid)
        child.communicate(b"\n")
        text = next(place for place in places if place.executable and "libc" in place.path)
        address = symbolizer.addresses("getpid", pid=child.pid)[0]
        assert text.start <= address < text.end
        assert symbolizer.user(child.pid, address + 1)[0].name.strip("_") == "getpid"


@pytest.mark.parametrize("jail", ["", "/jail"])  # maps shows paths from the root of the mount namespace
def test_files_are_found_below_the_root_of_a_container(jail):
    data = ElfBuilder().function("main", 0x401000, 0x80).build()
    fake = FakeKernel(
        {"/proc/9/maps": "7f0000000000-7f0000001000 r-xp 00001000 00:1f 5 " + jail + "/app/x\n", "/proc/9/stat": "9 (x) S" + " 0" * 30}
    )

    def link(call):
        path = bytes(call.args[1]).rstrip(b"\0").decode()
        inside = (jail or "/").encode()
        text = {"/proc/self/ns/mnt": b"mnt:[1]", "/proc/9/ns/mnt": b"mnt:[2]", "/proc/9/root": inside}.get(path)
        if path.startswith("/proc/self/fd/"):
            text = inside
        if text is None:
            return -2
        call.args[2][: len(text)] = text
        return len(text)

    fake.on("readlinkat", link)
    fake.files["/proc/9/root/proc"] = b""
    processes = Processes(fake)
    root = processes.root(9)
    assert root.startswith("/proc/self/fd/") and len(fake.open_fds) == 1
    fake.files[root + "/app/x"] = data
    fake.on("lseek", lambda call: len(data))
    symbolizer = Symbolizer(fake, processes=processes)
    assert symbolizer.user(9, 0x7F0000000004)[0].name == "main"
    symbolizer.close()
    assert not fake.open_fds


def test_debuginfod_is_asked_only_on_demand(tmp_path, monkeypatch):
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(tmp_path))
    monkeypatch.setenv("DEBUGINFOD_URLS", "http://127.0.0.1:9/ file:///etc ftp://x")
    asked = []
    debug = ElfBuilder().function("from_server", 0x401000, 8).note(".n", "GNU", 3, bytes.fromhex("77" * 20)).build()

    class Answer(io.BytesIO):
        pass

    def urlopen(request, timeout):
        asked.append(request.full_url)
        return Answer(debug)

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    path = tmp_path / "program"
    path.write_bytes(ElfBuilder().function("e", 0x401080, 8, dynamic=True).note(".n", "GNU", 3, bytes.fromhex("77" * 20)).build())
    assert recorded(str(path)).user(7, 0x7F0000000004)[0].name == "" and not asked
    assert recorded(str(path), debuginfod=True).user(7, 0x7F0000000004)[0].name == "from_server"
    assert asked == [f"http://127.0.0.1:9/buildid/{'77' * 20}/debuginfo"]
    assert debug_files.fetch("77" * 20) and len(asked) == 1, "from its cache"
    assert not debug_files.fetch("../../etc") and len(asked) == 1
    monkeypatch.setenv("DEBUGINFOD_MAXSIZE", "100")
    assert not debug_files.fetch("66" * 20) and len(asked) == 2, "too large"
    assert os.listdir(tmp_path / ("66" * 20)) == []


# -- harken symbolize


def command(capsys, *argv: str) -> tuple[int, list[str], str]:
    status = symbolize.run(list(argv))
    captured = capsys.readouterr()
    return status, captured.out.splitlines(), captured.err


def test_command_for_a_file(capsys, program):
    status, out, _ = command(capsys, "-e", program, "401004", "0x401090")
    assert status == 1 and out == [f"0x401004 main+0x4 ({program})", f"0x401090 [unknown] ({program})"]
    status, out, _ = command(capsys, "-e", program, "--json", "401004")
    assert status == 0
    assert json.loads(out[0]) == {
        "address": "0x401004", "symbol": "main", "offset": 4, "module": program, "kind": "native", "build_id": "ab" * 20,
    }  # fmt: skip
    status, out, _ = command(capsys, "-e", program, "--format", "addr2line", "-fa", "401004")
    assert out == ["0x0000000000401004", "main", "??:0"]
    assert command(capsys, "-e", program, "--no-demangle", "401104")[1] == [f"0x401104 _ZN3foo3barEi+0x4 ({program})"]
    assert command(capsys, "-e", program, "-n", "main", "main+8")[1] == ["0x401000 main", "0x401008 main+8"]


def test_command_for_a_recorded_kernel(capsys, tmp_path):
    path = tmp_path / "kallsyms"
    path.write_bytes(b"ffffffff81000000 T do_it\nffffffff81000100 T other\n")
    status, out, _ = command(capsys, "--kallsyms", str(path), "ffffffff81000010")
    assert (status, out) == (0, ["0xffffffff81000010 do_it+0x10 ([kernel.kallsyms])"])
    assert command(capsys, "--kallsyms", str(path), "-n", "other")[1] == ["0xffffffff81000100 other"]


def test_command_names_that_are_not_there_or_not_alone(capsys, tmp_path):
    elf = ElfBuilder().function("first", 0x401000, 8).function("helper", 0x401020, 8).function("helper", 0x401040, 8)
    path = tmp_path / "twins"
    path.write_bytes(elf.function("_ZN3fooplERKS_", 0x401060, 8).function("_ZN3foo3barEi", 0x401080, 8).build())
    status, out, err = command(capsys, "-e", str(path), "-n", "helper", "nothing", "frist", "first+8")
    assert status == 1 and out == ["0x401020 helper", "0x401040 helper", "0x401008 first+8"]
    assert "no symbol nothing" in err and "did you mean first?" in err
    kallsyms = tmp_path / "kallsyms"
    kallsyms.write_bytes(b"ffffffff81000000 T do_it\nffffffff81000100 T other\n")
    status, out, err = command(capsys, "--kallsyms", str(kallsyms), "-n", "nothing", "other")
    assert status == 1 and out == ["0xffffffff81000100 other"] and "no symbol nothing" in err
    if demangle.available():
        status, out, _ = command(capsys, "-e", str(path), "-n", "foo::bar", "foo::bar(int)", "foo::operator+", "foo::operator++8")
        assert out == ["0x401080 foo::bar", "0x401080 foo::bar(int)", "0x401060 foo::operator+", "0x401068 foo::operator++8"]


def test_command_answers_lines_as_they_come(program):
    argv = [sys.executable, "-m", "harken", "symbolize", "-e", program, "--no-demangle"]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert child.stdin and child.stdout
    child.stdin.write(b"401004\n")
    assert child.stdout.readline() == f"0x401004 main+0x4 ({program})\n".encode()
    out, _ = child.communicate(b"stack of 7:\n  401004 0xx\n\n401104\nend")
    expected = ["stack of 7:", f"0x401004 main+0x4 ({program})", "", f"0x401104 _ZN3foo3barEi+0x4 ({program})", "end"]
    assert out.decode().splitlines() == expected and child.returncode == 0


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["-e", "/nonexistent/x", "1"], 1, "nonexistent"),
        (["-e", "/etc/passwd", "1"], 1, "symbolize: /etc/passwd: not an ELF file"),
        (["-e", "/etc", "1"], 1, "/etc"),
        (["-p", "4194305", "1"], 1, "process 4194305"),
        (["-e", sys.executable, "zz"], 2, "not an address"),
        (["-e", sys.executable, "1" * 20], 2, "not an address"),
        (["--kallsyms", "/nonexistent", "1"], 2, "cannot read"),
        (["--kallsyms", "/etc/passwd", "1"], 2, "no copy of /proc/kallsyms"),
        (["--debuginfod", "-e", sys.executable, "1"], 2, "DEBUGINFOD_URLS"),
    ],
)
def test_command_refuses_with_a_message(capsys, monkeypatch, argv, status, message):
    monkeypatch.delenv("DEBUGINFOD_URLS", raising=False)
    got, out, err = command(capsys, *argv)
    assert got == status and not out and message in err and "Traceback" not in err
