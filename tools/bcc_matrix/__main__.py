"""``python -m tools.bcc_matrix [--kernel native --kernel 6.1 ...] [--every] [TOOL...]``: runs the tools, writes results and the page.

Needs root, Debian's bpfcc-tools; for guests QEMU, and mkfs.xfs and mkfs.btrfs for the tools of those file systems.
Each kernel is booted once and runs everything there is to run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harken.testing.vm import Vm

from . import report
from .cases import TOOLS, Case, cases, script
from .modules import STAND_IN, modules, stand_in
from .runtimes import needed

HERE = Path(__file__).parent
#: a rough figure for one case, in seconds, to bound a guest's whole run
_EACH = {True: 60.0, False: 15.0}


def _job(found: list[Case], guest: bool, peer: bool, module_paths: list[str]) -> dict[str, Any]:
    return {
        "guest": guest,
        "peer": peer,
        "modules": module_paths,
        "files": {"certificate.pem": _certificate()},
        "cases": [
            {
                "tool": c.tool,
                "script": str(script(c.tool)),
                "args": list(c.args),
                "work": list(c.work),
                "expect": c.expect,
                "rounds": c.rounds,
                "wait": c.wait,
            }
            for c in found
        ],
    }


def _certificate() -> str:
    """A key and a certificate for the workload that sslsniff watches."""
    with tempfile.TemporaryDirectory() as folder:
        words = "req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=test -keyout k -out c".split()
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
        return Path(folder, "k").read_text() + Path(folder, "c").read_text()


class _Collector:
    """Lines of the runner, as they come, into results."""

    def __init__(self, kernel: str, total: int, save: Callable[[list[dict[str, Any]]], None]) -> None:
        self.kernel, self.total, self._save = kernel, total, save
        self.results: list[dict[str, Any]] = []
        self._rest = ""

    def take(self, stream: str, text: str) -> None:
        if stream == "stderr":
            sys.stderr.write(text)
            return
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if not isinstance(message, dict):
                continue
            if message.pop("matrix", "") == "case":
                self.results.append(message)
                self._save(self.results)
                kind, reason = report.verdict(message)
                words = " ".join([message["tool"], *message["args"]])
                head = f"{time.strftime('%H:%M:%S')} {self.kernel} {len(self.results)}/{self.total} {message.get('seconds', 0):5.1f}s"
                trouble = f" [workload: {message['workload']}]" if message.get("workload") else ""
                print(f"{head} {kind:8} {words}: {reason[:150]}{trouble}", flush=True)
            elif "text" in message:
                print(f"{self.kernel}: {message['text']}", flush=True)


def _packages() -> list[Path]:
    """Packages of Debian's Python that some tools import (python3-netaddr, python3-dnslib, python3-cachetools)."""
    folder = Path("/usr/lib/python3/dist-packages")
    return [folder / name for name in ("netaddr", "dnslib", "cachetools") if (folder / name).is_dir()]


def _native(found: list[Case], peer: bool, save: Callable[[list[dict[str, Any]]], None]) -> None:
    collector = _Collector("native", len(found), save)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "job.json")
        path.write_text(json.dumps(_job(found, False, peer, [])))
        # bcc's own package lies beside these, so that folder itself must not be searched
        for package in () if peer else _packages():
            Path(folder, package.name).symlink_to(package)
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.bcc_matrix.runner", str(path)],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=HERE.parents[1],
            env={**os.environ, "PYTHONPATH": folder},
        )
        assert process.stdout is not None
        for line in process.stdout:
            collector.take("stdout", line)
        process.wait()


def _guest(release: str, found: list[Case], peer: bool, headers: str, save: Callable[[list[dict[str, Any]]], None]) -> None:
    parts = modules(release)
    if headers:
        parts[STAND_IN] = stand_in(Path(headers))
    collector = _Collector(release, len(found), save)
    job = _job(found, True, peer, list(parts))
    files: dict[str, bytes | Path] = {**parts, "/harken/matrix.json": json.dumps(job).encode()}
    for path in TOOLS.iterdir():
        if path.name.endswith("-bpfcc") or path.name in ("ucalls", "uflow", "ugc", "uobjnew", "ustat", "uthreads"):
            files[str(path)] = path
    trees = {"/usr/share/bpfcc-tools": Path("/usr/share/bpfcc-tools"), "/harken/tools": HERE.parent}
    trees.update({f"/harken/site/{path.name}": path for path in _packages()})
    dynload = Path(os.__file__).parent / "lib-dynload"
    for path in dynload.glob("_curses*.so"):
        files[str(path)] = path
    for name in ("libncursesw.so.6", "libtinfo.so.6"):
        files.update({str(path): path for path in Path("/lib").glob(f"*/{name}")})
    terminfo = Path("/usr/share/terminfo/x/xterm")
    for place in (terminfo, Path("/lib/terminfo/x/xterm")):
        if place.is_file():
            files["/usr/share/terminfo/x/xterm"] = place
    files["/bin/bash"] = Path("/bin/bash")  # else busybox's
    # a Python with static markers, for pythoncalls and its like
    markers = [str(path) for path in (Path("/usr/bin/python3.11"),) if path.exists() and os.path.realpath(sys.executable) != str(path)]
    programs = [
        "bash",
        "openssl",
        *markers,
        "mke2fs",
        *(name for name in ("mkfs.xfs", "mkfs.btrfs") if any(Path(d, name).exists() for d in ("/usr/sbin", "/sbin"))),
    ]
    vm = Vm(release, packages=["clang"], programs=programs, memory=3000 if not peer else 4000, cpus=1, devices=["virtio-rng-pci"])
    try:
        vm.run(
            os.path.realpath(sys.executable), "-m", "tools.bcc_matrix.runner", "/harken/matrix.json",
            files=files, trees=trees, timeout=180 + len(found) * _EACH[True], on_output=collector.take,
        )  # fmt: skip
    except Exception as error:  # what was found until then counts
        print(f"{release}: {error}", flush=True)


def _here() -> str:
    """This machine's kernel, and what of it matters here."""
    from harken.kernel.features import Features
    from harken.kernel.kernel import live

    features = Features(live())
    missing = [name for name in ("kprobe_perf", "fentry") if not features.has(name)]
    without = ", without " + " and ".join({"kprobe_perf": "kprobes"}.get(name, name) for name in missing) if missing else ""
    return "Linux " + ".".join(os.uname().release.split(".")[:2]) + without


def _versions(kernels: list[str]) -> dict[str, str]:
    from harken.testing.kernels import find

    found = {}
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "bpfcc-tools"], capture_output=True, text=True)
    found["bpfcc-tools"] = done.stdout.strip()
    for kernel in kernels:
        found[kernel] = _here() if kernel == "native" else find(kernel).version
    return found


def _rest(found: list[Case], kernel: str, results: dict[str, list[dict[str, Any]]]) -> list[Case]:
    """Of each tool one case if none works on this kernel yet; of tools that work here the cases not yet seen working on any kernel."""
    seen = {(r["tool"], tuple(r["args"])): report.verdict(r)[0] for r in results.get(kernel, [])}
    works = {(r["tool"], tuple(r["args"])) for ran in results.values() for r in ran if report.verdict(r)[0] == "works"}
    here = {tool for (tool, _), kind in seen.items() if kind == "works"}
    first = [case for number, case in enumerate(found) if case.tool not in {one.tool for one in found[:number]}]
    wanted = [case for case in first if case.tool not in here]
    again = [case for case in found if case.tool in here and (case.tool, case.args) not in works]
    took: dict[str, float] = {}
    for r in results.get(kernel, []):
        took[r["tool"]] = min(r.get("seconds", 0.0), took.get(r["tool"], 1e9))
    return wanted + sorted(again, key=lambda case: took[case.tool])  # quick ones first


def _there(tool: str, args: Sequence[str]) -> bool:
    """Whether a guest has what a case watches: of the runtimes of languages it has Python only."""
    return set(needed(tuple(args), tool)) <= {"python"}


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tools.bcc_matrix", description="Run BCC's tools, unchanged, under harken.bcc.")
    parser.add_argument("tool", nargs="*", help="only these tools")
    parser.add_argument("--kernel", action="append", default=[], help="native, 6.1, 6.12, ... (default: these three); none: only write")
    parser.add_argument("--every", action="store_true", help="all variants of the manual pages, not only each tool's first")
    parser.add_argument("--peer", action="store_true", help="the real bcc instead (needs kernel headers)")
    parser.add_argument("--headers", default="", help="a folder with unpacked header packages: guests get `kernel_stand_in`")
    parser.add_argument("--results", default="", help="file of results (JSON): kept, and updated by this run")
    parser.add_argument("--page", default="", help="write the page (docs/bcc_tools.md)")
    parser.add_argument("--failures", default="", help="write a list of what does not work")
    parser.add_argument("--rest", action="store_true", help="only what --results does not show working yet (see `_rest`)")
    parser.add_argument("--most", type=int, default=0, help="at most so many cases")
    parser.add_argument("--match", default="", help="only cases whose arguments contain this text")
    options = parser.parse_args()
    kernels = [] if options.kernel == ["none"] else options.kernel or ["native", "6.1", "6.12"]
    results: dict[str, list[dict[str, Any]]] = {}
    if options.results and Path(options.results).exists():
        results = json.loads(Path(options.results).read_text())
    found = [case for case in cases(frozenset(options.tool), options.every) if options.match in case.name]
    every = found
    for kernel in kernels:
        found = _rest(every, kernel, results) if options.rest else every
        found = found[: options.most or len(found)]
        known = {(r["tool"], tuple(r["args"])): r for r in results.get(kernel, [])}

        def save(fresh: list[dict[str, Any]], kernel: str = kernel, known: dict[Any, dict[str, Any]] = known) -> None:
            known.update({(r["tool"], tuple(r["args"])): r for r in fresh})
            results[kernel] = list(known.values())
            if options.results:
                if Path(options.results).exists():  # another run may have filled in another kernel meanwhile
                    results.update({k: v for k, v in json.loads(Path(options.results).read_text()).items() if k != kernel})
                Path(options.results).write_text(json.dumps(results, indent=1))
            if options.failures:
                Path(options.failures).write_text(report.failures(results))

        if kernel == "native":
            _native(found, options.peer, save)
        else:
            _guest(kernel, [case for case in found if _there(case.tool, case.args)], options.peer, options.headers, save)
    if options.page:
        known_cases = {(case.tool, case.args) for case in cases(every=True)}  # results of cases that there were once do not count
        results = {
            k: [r for r in ran if (r["tool"], tuple(r["args"])) in known_cases and (k == "native" or _there(r["tool"], r["args"]))]
            for k, ran in results.items()
        }
        Path(options.page).write_text(report.page(results, _versions(list(results)), len(known_cases)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
