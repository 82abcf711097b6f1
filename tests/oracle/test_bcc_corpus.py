"""Every C text of the installed BCC tools, read and lowered with this kernel's types.

The scripts run with a stand-in for the package ``bcc`` (``bcc_corpus_runner``), so the texts are those that BCC would be given, and
none of them is kept here.  ``HARKEN_CORPUS=full`` tries every option of every tool, which takes minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harken.base.diagnostics import Source
from harken.base.errors import SourceError
from harken.kernel.kernel import live
from harken.languages.c.compile import Options, compile
from harken.probes.catalogue import Catalogue

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not Path("/usr/sbin/execsnoop-bpfcc").exists(), reason="bpfcc-tools is not installed"),
    pytest.mark.skipif(not Path("/sys/kernel/btf/vmlinux").exists(), reason="this kernel carries no BTF"),
]
pytest.importorskip("clang", reason="libclang is not installed: pip install 'harken[c]'")

RUNNER = Path(__file__).with_name("bcc_corpus_runner.py")
FULL = os.environ.get("HARKEN_CORPUS") == "full"
#: command lines of tools that do nothing without
COMMAND_LINES: dict[str, list[list[str]]] = {
    "trace": [
        ['do_sys_openat2 "%s", arg2'], ['t:sched:sched_switch "%d", args->prev_pid'], ['r::do_sys_openat2 "%d", retval'],
        ['c:malloc (arg1 > 10) "%d", arg1'], ["-K", "-U", 'do_nanosleep "%K %U", arg1, arg2'],
        ['p::vfs_read(struct file *file, char *buf, size_t count) (count > 5) "%d %s", count, file->f_path.dentry->d_name.name'],
    ],
    "argdist": [
        ["-H", "r::vfs_read()"], ["-C", "p::vfs_read(struct file *file, char *buf, size_t count):size_t:count"],
        ["-C", "t:sched:sched_switch():int:args->prev_pid"], ["-H", "r::vfs_read():u64:$latency/1000"],
        ["-C", "p:c:malloc(size_t size):size_t:size:size==16"],
    ],
    "funccount": [["vfs_*"], ["t:sched:sched_*"]], "funclatency": [["vfs_read"], ["-F", "vfs_read"], ["c:malloc"]],
    "funcslower": [["vfs_read"], ["-u", "10", "-K", "-U", "vfs_read"]], "funcinterval": [["vfs_read"]],
    "stackcount": [["vfs_read"], ["t:sched:sched_switch"]], "deadlock": [["1"]], "dirtop": [["-d", "/tmp"]],
    "inject": [["kmalloc", "-v", "SyS_mount()"], ["alloc_page", "__x64_sys_mount() => mount_subtree()"]],
    "ucalls": [["-S", "1"]], "uobjnew": [["-l", "c", "1"]], "netqtop": [["-n", "lo"]], "tcpsubnet": [["10.0.0.0/8"]],
}  # fmt: skip
#: what clang says of types that another kernel, or a module that is not loaded, has
ABSENT = ("no member named", "incomplete definition", "incomplete type", "is not a structure or union")


def collect(script: Path) -> list[dict[str, Any]]:
    name = script.name.removesuffix("-bpfcc")
    if b"python" not in script.read_bytes()[:80]:
        return []
    words = ["python3", str(RUNNER), str(script), json.dumps(COMMAND_LINES.get(name, [])), "1" if FULL else "0"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=280, stdin=subprocess.DEVNULL)
    return [found for line in done.stdout.splitlines() if line.startswith("{") and "text" in (found := json.loads(line))]


@pytest.fixture(scope="module")
def corpus() -> list[dict[str, Any]]:
    scripts = sorted(Path("/usr/sbin").glob("*-bpfcc"))
    with ThreadPoolExecutor(2) as pool:
        return [text for found in pool.map(collect, scripts) for text in found]


def test_texts_of_bcc_tools_compile(corpus: list[dict[str, Any]]) -> None:
    assert len(corpus) > 80, "most tools give a text"
    catalogue = Catalogue(live())
    wrong, absent = [], 0
    for found in corpus:
        source = Source(found["script"], found["text"])
        try:
            unit = compile(source, catalogue, Options(cflags=tuple(found["cflags"])))
        except SourceError as error:
            if any(word in error.message for word in ABSENT):
                absent += 1
            elif "no USDT marker" not in error.message:
                wrong.append(f"{found['script']} {found['argv']}: {error.diagnostics[0].position} {error.message}")
            continue
        if not unit.functions:
            wrong.append(f"{found['script']} {found['argv']}: no function")
        # they do what they mean, so nobody is warned
        wrong += [f"{found['script']} {found['argv']}: {position} {text}" for position, text, _ in unit.warnings]
    assert not wrong, "\n".join(wrong)
    assert absent <= len(corpus) // 8, f"{absent} of {len(corpus)} texts want types that this kernel lacks"
