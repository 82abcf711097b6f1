"""Records what the real BCC prints for the pairs of `kernel_pairs`, in a guest where it has kprobes.

``python -m tools.bcc_matrix.kernel_peer FILE --kernel 6.1 --headers FOLDER``; FOLDER holds Debian's header packages of that kernel,
unpacked (``dpkg -x linux-headers-*-amd64*.deb FOLDER`` and the same with ``-common``).  ``--ours`` runs harken in such a
guest instead and holds what it prints against the file; tools that watch block devices, which test guests lack, are compared so.

LLVM in an emulated machine takes minutes for each tool, so the C is compiled outside, by the same libbcc with the same headers: a first
guest tells what text each script hands to BCC, here it is compiled, and in a second guest the scripts run under BCC's own Python library
with what was compiled (its programs with the descriptors of maps exchanged, and the descriptions of its tables).
"""

from __future__ import annotations

import argparse
import atexit
import base64
import ctypes
import json
import os
import re
import runpy
import signal
import struct
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from .kernel_pairs import PAIRS, Pair, essence, run
from .kernel_work import BARE, FOLDER, Worker

__all__ = ("compare", "record")

PACKAGE = Path("/usr/lib/python3/dist-packages/bcc")
_PID = 19999
_LOAD_MAP_FD = 1  # BPF_PSEUDO_MAP_FD
_MODULES = "/harken/modules.json"
"""In a guest: the paths of modules, in order."""


# -- in the guests


def _prepare(chosen: tuple[Pair, ...]) -> None:
    """Sets up block devices if a tool watches them."""
    from .machine import prepare_disk

    if any(pair.disk for pair in chosen):
        prepare_disk(FOLDER, BARE, json.loads(Path(_MODULES).read_text()), lambda text: print(text, flush=True))


def _start_peer(script: str, args: list[str], out: str, err: str) -> int:
    """The tool's process, under the real BCC that this one has loaded."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [script, *args]
    os.getpid = lambda: _PID  # type: ignore[assignment]  # capable has it in its program's text
    status = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status)


def _library() -> Any:
    from bcc.libbcc import lib  # type: ignore[import-not-found]

    return lib


def _tell_texts(chosen: tuple[Pair, ...]) -> None:
    """Starts each script as far as its program's text; a line of JSON for each: ["text", name, text, flags]."""
    from .cases import script

    lib = _library()
    worker = Worker()
    out, err = f"{FOLDER}/peer-out", f"{FOLDER}/peer-err"
    os.makedirs(FOLDER, exist_ok=True)
    for pair in chosen:
        there = os.dup(1)

        def create(text: bytes, debug: int, flags: Any, count: int, *_: Any, name: str = pair.name, there: int = there) -> int:
            if not text:  # opensnoop asks an empty program for names
                return 1
            line = json.dumps(["text", name, text.decode(), [flags[number].decode() for number in range(count)]]) + "\n"
            while line:
                line = line[os.write(there, line.encode()) :]
            os._exit(0)

        lib.bpf_module_create_c_from_string = create
        lib.bpf_num_functions = lambda module: 0
        lib.bpf_module_destroy = lambda module: None
        words = [word.replace("{pid}", str(worker.pid)) for word in pair.words]
        os.waitpid(_start_peer(str(script(words[0])), words[1:], out, err), 0)
        os.close(there)
        print(Path(err).read_text()[-500:], end="", flush=True)
    worker.close()


class _Module:
    """A compiled program in place of what libbcc would compile."""

    def __init__(self, lib: Any, compiled: dict[str, Any]) -> None:
        self.functions = [(name.encode(), base64.b64decode(code)) for name, code in compiled["functions"]]
        self.tables = compiled["tables"]
        self.license, self.version = compiled["license"].encode(), compiled["version"]
        exchanged = {}
        for table in self.tables:
            sizes = (table["key_size"], table["leaf_size"], table["max_entries"], table["flags"])
            fd = lib.bcc_create_map(table["type"], table["name"].encode(), *sizes)
            if fd < 0:
                raise OSError(f"table {table['name']} cannot be created")
            exchanged[table["fd"]], table["own_fd"] = fd, fd
        self.buffers = {}
        for name, code in self.functions:
            data = bytearray(code)
            for at in range(0, len(data), 8):
                if data[at] == 0x18 and data[at + 1] >> 4 == _LOAD_MAP_FD:
                    struct.pack_into("<i", data, at + 4, exchanged[struct.unpack_from("<i", data, at + 4)[0]])
            self.buffers[name] = ctypes.create_string_buffer(bytes(data), len(data))


def _replay(compiled: dict[str, dict[str, Any]]) -> None:
    """Has libbcc's functions that tell of a compiled program answer from what was compiled outside."""
    lib = _library()
    modules: list[_Module] = []

    def create(text: bytes, *_: Any) -> int:
        nothing = {"functions": [], "tables": [], "license": "", "version": 0}
        modules.append(_Module(lib, compiled[text.decode()] if text else nothing))
        return len(modules)

    def table(module: int, name: bytes) -> int:
        names = [one["name"].encode() for one in modules[module - 1].tables]
        return names.index(name) if name in names else -1

    def told(word: str) -> Any:
        return lambda module, number: modules[module - 1].tables[number][word] if number >= 0 else 0

    def described(word: str) -> Any:
        return lambda module, name: modules[module - 1].tables[table(module, name)][word].encode()

    def load(module: int, kind: int, name: bytes, code: Any, size: int, license: bytes, version: int, level: int, *_: Any) -> int:
        return int(lib.bcc_prog_load(kind, name, code, size, license, version, level, None, 0))

    functions: dict[str, Any] = {
        "bpf_module_create_c_from_string": create,
        "bpf_module_destroy": lambda module: None,
        "bpf_num_functions": lambda module: len(modules[module - 1].functions),
        "bpf_function_name": lambda module, number: modules[module - 1].functions[number][0],
        "bpf_function_start": lambda module, name: modules[module - 1].buffers.get(name),
        "bpf_function_size": lambda module, name: len(modules[module - 1].buffers[name]),
        "bpf_module_license": lambda module: modules[module - 1].license,
        "bpf_module_kern_version": lambda module: modules[module - 1].version,
        "bpf_table_id": table,
        "bpf_table_fd": lambda module, name: modules[module - 1].tables[at]["own_fd"] if (at := table(module, name)) >= 0 else -1,
        "bpf_table_type_id": told("type"),
        "bpf_table_flags_id": told("flags"),
        "bpf_table_max_entries_id": told("max_entries"),
        "bpf_table_key_desc": described("key_desc"),
        "bpf_table_leaf_desc": described("leaf_desc"),
        "bpf_perf_event_fields": lambda module, name: len(modules[module - 1].tables[table(module, name)]["fields"]),
        "bpf_perf_event_field": lambda module, name, at: modules[module - 1].tables[table(module, name)]["fields"][at].encode(),
        "bcc_func_load": load,
    }
    lib.bcc_prog_load.restype = ctypes.c_int
    lib.bcc_prog_load.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    lib.bcc_prog_load.argtypes += [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    for name, function in functions.items():
        setattr(lib, name, function)


# -- outside


def _compile(texts: Path, result: Path) -> None:
    """Compiles each text with libbcc; runs where the guest's headers stand in the place of this kernel's."""
    lib = _library()
    found = {}
    for text, flags in json.loads(texts.read_text()):
        words = (ctypes.c_char_p * len(flags))(*[flag.encode() for flag in flags])
        module = lib.bpf_module_create_c_from_string(text.encode(), 0, words, len(flags), True, None)
        if not module:
            print(f"not compiled: {text[:200]}", flush=True)
            continue
        names = [lib.bpf_function_name(module, number) for number in range(lib.bpf_num_functions(module))]
        code = {name: ctypes.string_at(lib.bpf_function_start(module, name), lib.bpf_function_size(module, name)) for name in names}
        for word in ("name", "key_desc_id", "leaf_desc_id"):
            getattr(lib, f"bpf_table_{word}").restype = ctypes.c_char_p
        for word in ("key_size_id", "leaf_size_id"):
            getattr(lib, f"bpf_table_{word}").restype = ctypes.c_size_t
        for word in ("name", "key_desc_id", "leaf_desc_id", "key_size_id", "leaf_size_id", "fd_id"):
            getattr(lib, f"bpf_table_{word}").argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        lib.bpf_num_tables.argtypes, lib.bpf_num_tables.restype = [ctypes.c_void_p], ctypes.c_size_t
        tables = []
        for number in range(lib.bpf_num_tables(module)):
            name = lib.bpf_table_name(module, number)
            fields = [lib.bpf_perf_event_field(module, name, at).decode() for at in range(lib.bpf_perf_event_fields(module, name))]
            tables.append(
                {
                    "name": name.decode(),
                    "fd": lib.bpf_table_fd_id(module, number),
                    "type": lib.bpf_table_type_id(module, number),
                    "flags": lib.bpf_table_flags_id(module, number),
                    "max_entries": lib.bpf_table_max_entries_id(module, number),
                    "key_size": lib.bpf_table_key_size_id(module, number),
                    "leaf_size": lib.bpf_table_leaf_size_id(module, number),
                    "key_desc": (lib.bpf_table_key_desc(module, name) or b"").decode(),
                    "leaf_desc": (lib.bpf_table_leaf_desc(module, name) or b"").decode(),
                    "fields": fields,
                }
            )
        found[text] = {
            "functions": [(name.decode(), base64.b64encode(code[name]).decode()) for name in names],
            "tables": tables,
            "license": lib.bpf_module_license(module).decode(),
            "version": lib.bpf_module_kern_version(module),
        }
    result.write_text(json.dumps(found))


def _compiled_outside(texts: list[tuple[str, list[str]]], headers: Path) -> bytes:
    """JSON: text -> what libbcc makes of it with those headers."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "texts").write_text(json.dumps(texts))
        (folder / "site").mkdir()
        (folder / "site" / "bcc").symlink_to(PACKAGE)
        build, source = _header_folders(headers)
        steps = (
            "mount --make-rprivate /",
            "mkdir -p /lib/modules && mount -t tmpfs none /lib/modules && mkdir -p /lib/modules/$(uname -r)",
            f"ln -s /usr/src/{build} /lib/modules/$(uname -r)/build && ln -s /usr/src/{source} /lib/modules/$(uname -r)/source",
            f"mount --bind {headers}/usr/src /usr/src",
            f"exec {sys.executable} -m tools.bcc_matrix.kernel_peer --here compile {folder}/result {folder}/texts",
        )
        environment = {**os.environ, "PYTHONPATH": f"{folder}/site"}
        subprocess.run(["unshare", "-m", "sh", "-ec", "\n".join(steps)], check=True, env=environment, cwd=Path(__file__).parents[2])
        return (folder / "result").read_bytes()


def _header_folders(headers: Path) -> tuple[str, str]:
    folders = sorted(name for name in os.listdir(headers / "usr" / "src") if name.startswith("linux-headers"))
    return next((n for n in folders if not n.endswith("-common")), ""), next((n for n in folders if n.endswith("-common")), folders[0])


def _brought(release: str, chosen: tuple[Pair, ...]) -> dict[str, bytes | Path]:
    """Files of a guest: the scripts, and modules for block devices."""
    from .cases import script
    from .modules import modules

    files: dict[str, bytes | Path] = {str(script(pair.words[0])): script(pair.words[0]) for pair in chosen}
    if any(pair.disk for pair in chosen):
        parts = modules(release, ("crc32c_generic", "loop", "ext4"))
        files.update({**parts, _MODULES: json.dumps(list(parts)).encode()})
    return files


def _programs(chosen: tuple[Pair, ...]) -> list[str]:
    return ["mke2fs"] if any(pair.disk for pair in chosen) else []


def compare(path: Path, release: str, chosen: tuple[Pair, ...]) -> bool:
    """Runs harken in a guest; whether it prints what the file says that the real BCC printed.

    Args:
        path: what `record` wrote.
        release: of the kernel; where it is another one than the file's, outputs that depend on the kernel are not compared.
        chosen: which tools.
    """
    from harken.testing.vm import Vm

    recorded = json.loads(path.read_text())
    vm = Vm(release, packages=["clang"], programs=_programs(chosen), memory=3000, cpus=1)
    same = vm.kernel.version == recorded["kernel"]
    chosen = tuple(pair for pair in chosen if pair.name in recorded["outputs"] and (same or not pair.same_kernel))
    rest, equal = "", 0

    def take(stream: str, text: str) -> None:
        nonlocal rest, equal
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            if not line.startswith("["):
                print(line[:300], flush=True)
                continue
            pid, name, output = json.loads(line)
            theirs = recorded["outputs"][name]
            wanted, found = essence(name, theirs["stdout"], theirs["pid"]), essence(name, output["stdout"], pid)
            equal += wanted == found
            print(f"{name}: {'equal' if wanted == found else 'differs'}: {json.dumps(found)[:400]}", flush=True)
            if wanted != found:
                print(f"  BCC: {json.dumps(wanted)[:400]}\n{output['stdout'][-3000:]}\n{output['stderr']}", flush=True)

    names = [pair.words[0] for pair in chosen]
    command = [os.path.realpath(sys.executable), "-m", "tools.bcc_matrix.kernel_peer", "--here", "ours", "-", *names]
    trees = {"/harken/tools": Path(__file__).parents[1]}
    vm.run(*command, files=_brought(release, chosen), trees=trees, timeout=1800, on_output=take)
    return equal == len(chosen)


def record(path: Path, release: str, headers: Path, chosen: tuple[Pair, ...]) -> None:
    """Runs the real BCC in a guest and keeps its outputs.

    Args:
        path: the file that is written, or filled up.
        release: of the kernel ("6.1").
        headers: a folder with the unpacked linux-headers packages of that kernel (.../usr/src/linux-headers-*).
        chosen: which tools.
    """
    from harken.testing.vm import Vm

    library = next(one for one in (Path("/usr/lib/x86_64-linux-gnu/libbcc.so.0"), Path("/usr/lib/libbcc.so.0")) if one.exists())
    files: dict[str, bytes | Path] = {str(one): one for one in (library, library.parent / "librt.so.1") if one.exists()}
    done = subprocess.run(["ldd", str(library)], capture_output=True, text=True, check=True)
    for found in re.findall(r"=> (/\S+)", done.stdout):
        files[found] = Path(found)
    files.update(_brought(release, chosen))
    trees = {"/harken/site/bcc": PACKAGE, "/harken/tools": Path(__file__).parents[1]}
    vm = Vm(release, programs=_programs(chosen), memory=3000, cpus=1)
    version = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "bpfcc-tools"], capture_output=True, text=True).stdout
    kept: dict[str, Any] = {"bcc": version, "kernel": vm.kernel.version, "outputs": {}}
    if path.exists():
        kept = json.loads(path.read_text())
    texts: dict[str, list[str]] = {}
    rest = ""

    def take(stream: str, text: str) -> None:
        nonlocal rest
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            if line.startswith('["text"'):
                _, name, program, flags = json.loads(line)
                texts[program] = flags
                print(name, flush=True)
                continue
            if line.startswith("["):
                pid, name, output = json.loads(line)
                if output["stdout"] and ("Traceback" not in output["stderr"] or "KeyboardInterrupt" in output["stderr"]):
                    kept["outputs"][name] = {"pid": pid, "stdout": output["stdout"]}
                path.write_text(json.dumps(kept, indent=1) + "\n")
            print(line[:300], flush=True)

    names = [pair.words[0] for pair in chosen]
    command = [os.path.realpath(sys.executable), "-m", "tools.bcc_matrix.kernel_peer", "--here"]
    vm.run(*command, "texts", "-", *names, files=files, trees=trees, timeout=1800, on_output=take)
    files["/harken/compiled.json"] = _compiled_outside(list(texts.items()), headers)
    vm.run(*command, "run", "/harken/compiled.json", *names, files=files, trees=trees, timeout=1800, on_output=take)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tools.bcc_matrix.kernel_peer")
    parser.add_argument("file", type=Path, help="what is recorded")
    parser.add_argument("--kernel", default="6.1", help="of the guest (default: 6.1)")
    parser.add_argument("--headers", type=Path, help="a folder with that kernel's unpacked header packages")
    parser.add_argument("--here", choices=("texts", "compile", "run", "ours"), help="one of the steps")
    parser.add_argument("--ours", action="store_true", help="run harken in a guest and compare with the file")
    parser.add_argument("tool", nargs="*", help="only these tools")
    options = parser.parse_intermixed_args()
    if options.here == "compile":
        _compile(Path(options.tool[0]), options.file)
        return 0
    chosen = tuple(pair for pair in PAIRS if not options.tool or pair.words[0] in options.tool)
    if options.here:
        _prepare(chosen)
    if options.here == "texts":
        _tell_texts(chosen)
    elif options.here == "ours":
        from .runner import _first_program

        _first_program()
        run(chosen, at_once=3, tell=lambda line: print(line, flush=True))
    elif options.ours:
        return 0 if compare(options.file, options.kernel, chosen) else 1
    elif options.here == "run":
        _replay(json.loads(options.file.read_text()))
        run(chosen, _start_peer, patience=1200.0, tell=lambda line: print(line, flush=True))
    else:
        record(options.file, options.kernel, options.headers, chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
