"""Runs cases where the tools are to run: here, or inside a guest.  One process; one line of JSON per finished case on standard output.

``python -m tools.bcc_matrix.runner JOB.json``.  With harken, the tools run in forks of this process, which has imported everything
already: inside an emulated machine a fresh interpreter costs more than all the rest.  With the peer (``"peer": true``) each is a process
of the system's own Python with the real bcc.

What is told of a case: whether programs were attached (by the process's descriptors), whether a line of data was shown while the workload
ran, how it ended, and its last words.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .data import line_of_data
from .machine import prepare
from .runtimes import Runtimes, needed
from .worker import COMM, FOLDER, Worker

__all__ = ("Setting", "main", "run_case", "terminal")

#: tools that draw on a terminal
_SCREEN = frozenset(("cachetop",))
_TICKS = os.sysconf("SC_CLK_TCK")
_ATTACHED = re.compile(r"bpf_link|bpf-link|raw-tracepoint|perf_event")


class Setting:
    """What placeholders stand for, and how patient to be."""

    def __init__(self, job: dict[str, Any], worker: Worker) -> None:
        self.guest: bool = job["guest"]
        self.peer: bool = job.get("peer", False)
        self.slow = 8.0 if self.guest else 1.0
        self.worker = worker
        self.values = {
            "pid": str(worker.pid),
            "comm": COMM,
            "folder": FOLDER,
            "libc": next((str(p) for p in Path("/lib").glob("*/libc.so.6")), "/lib/x86_64-linux-gnu/libc.so.6"),
            "tty": os.environ.get("HARKEN_TTY", "/dev/null"),
            "netns": str(os.stat("/proc/self/ns/net").st_ino),
            "cgroupmap": "/sys/fs/bpf/harken_matrix_cgroups",
            "mntnsmap": "/sys/fs/bpf/harken_matrix_mounts",
            **_disk(),
        }

    def fill(self, args: list[str]) -> list[str]:
        """The arguments with their placeholders filled in."""
        return [re.sub(r"\{(\w+)\}", lambda m: self.values.get(m[1], m[0]), word) for word in args]


def _disk() -> dict[str, str]:
    """The block device that the workload "disk" writes to."""
    place = f"{FOLDER}/ext4"
    device = os.stat(place if os.path.ismount(place) else "/tmp").st_dev
    try:
        name = os.path.basename(os.readlink(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"))
    except OSError:
        name = "loop0"
    return {"disk": f"/dev/{name}", "diskname": name}


def _prepare(job: dict[str, Any]) -> None:
    os.makedirs(FOLDER, exist_ok=True)
    for name, text in job.get("files", {}).items():
        Path(FOLDER, name).write_text(text)
    if not job["guest"]:
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900m", "none", FOLDER], check=False)
    for name, text in job.get("files", {}).items():
        Path(FOLDER, name).write_text(text)
    prepare(FOLDER, job.get("modules", []), lambda text: _say("note", text=text))


def _pinned_maps(setting: Setting) -> list[Any]:
    """The maps that --cgroupmap and --mntnsmap name, with the worker in them; they stay open, for bpflist to see."""
    from harken.abi import bpf as abi
    from harken.base.errors import HarkenError
    from harken.formats.spec import MapSpec
    from harken.kernel.bpf import create_map
    from harken.kernel.kernel import live

    kept = []
    for name, key, size in (
        ("cgroupmap", os.stat("/sys/fs/cgroup").st_ino, 8),
        ("mntnsmap", os.stat("/proc/self/ns/mnt").st_ino, 4),
    ):
        path = setting.values[name]
        try:
            os.unlink(path)
        except OSError:
            pass
        try:
            map = create_map(live(), MapSpec(name, abi.BPF_MAP_TYPE_HASH, 8, size, 1024))
            map.update(key.to_bytes(8, "little"), (1).to_bytes(size, "little"))
            map.pin(path)
            kept.append(map)
        except (HarkenError, OSError) as error:
            _say("note", text=f"{name}: {error}")
    return kept


def terminal() -> int:
    """A pseudo terminal whose output nobody reads but us."""
    import pty

    master, slave = pty.openpty()
    os.environ["HARKEN_TTY"] = os.ttyname(slave)
    os.set_blocking(master, False)
    return master


def _start(case: dict[str, Any], args: list[str], setting: Setting, out: str, err: str) -> int:
    """The tool's process."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    for number, path in ((1, out), (2, err)):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(fd, number)
    if case["tool"] in _SCREEN:
        _screen(out)
    else:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ["TERM"] = "xterm"
    os.chdir(FOLDER)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    script = case["script"]
    shell = _wrapped(script)
    try:
        if shell is not None and not shell:
            os.execvp("bash", ["bash", script, *args])
        if shell:
            script, args = shell[0], [*shell[1:], *args]
        if setting.peer:
            os.execv("/usr/bin/python3", ["python3", "-u", script, *args])
        _run_script(script, args)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    os._exit(99)


def _wrapped(script: str) -> list[str] | None:
    """None for a Python script; for a shell script that only calls one with more arguments that one and those, else []."""
    text = Path(script).read_text(errors="replace")
    if "sh" not in text.partition("\n")[0].rpartition("/")[2]:
        return None
    found = re.search(r'^\$lib/(\w+) (.*?) ?"\$@"', text, re.M)
    return [f"{os.path.dirname(script)}/{found[1]}", *found[2].split()] if found else []


def _screen(out: str) -> None:
    """A terminal for tools that draw on one; what they draw goes on into the file of output."""
    import pty

    pid, master = pty.fork()
    if pid == 0:
        return
    signal.signal(signal.SIGINT, lambda *_: os.kill(pid, signal.SIGINT))
    row = b""

    def moved(match: re.Match[bytes]) -> bytes:
        """What a cursor movement is in text: the next line, or a blank within the same one."""
        nonlocal row
        before, (place, letter) = row, match.groups()
        if letter == b"H":
            row = place.partition(b";")[0]
        elif letter in (b"d", b"J"):
            row = place
        return b" " if row == before else b"\n"

    while True:
        try:
            data = os.read(master, 1 << 16)
        except OSError:
            break
        os.write(1, re.sub(rb"\x1b\[([0-9;?]*)([A-Za-z])", moved, re.sub(rb"\x1b[=>]|\x1b\(B", b"", data)))
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF)


def _run_script(script: str, args: list[str]) -> None:
    """What ``python -m harken.bcc SCRIPT ARGS`` does, in this fork."""
    import runpy
    import traceback

    sys.argv = ["harken.bcc", script, *args]
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    status: object = 0
    try:
        runpy.run_module("harken.bcc", run_name="__main__", alter_sys=False)
    except SystemExit as error:
        status = error.code
    except BaseException:
        traceback.print_exc()
        status = 1
    import atexit

    if isinstance(status, str):
        print(status, file=sys.stderr)
        status = 1
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
    except BaseException:
        pass
    os._exit(int(status or 0) & 0xFF)  # type: ignore[call-overload]


def _attachments(pid: int) -> tuple[int, int, int]:
    """(descriptors of attachments, all descriptors of BPF, clock ticks spent) of a process and its children."""
    found = every = spent = 0
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            for child in file.read().split():
                inner, all_inner, spent_inner = _attachments(int(child))
                found, every, spent = found + inner, every + all_inner, spent + spent_inner
    except OSError:
        pass
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
            spent += int(fields[11]) + int(fields[12])
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            if target.startswith("anon_inode"):
                every += "bpf" in target or "perf" in target
                found += _ATTACHED.search(target) is not None
    except OSError:
        pass
    return found, every, spent


class _Process:
    """A started tool: polled, never waited for without a bound."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None

    def ended(self, patience: float = 0.0) -> bool:
        end = time.monotonic() + patience
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= end:
                return False
            else:
                time.sleep(0.05)
        return True

    def signal(self, number: int) -> None:
        if self.status is None:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                pass


def run_case(case: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """One case; see the module."""
    out, err = f"/tmp/harken-matrix-out-{os.getpid()}", f"/tmp/harken-matrix-err-{os.getpid()}"
    # a process that ends while it is watched
    mortal = subprocess.Popen(["sleep", "1000"]) if "{mortal}" in case["args"] else None
    setting.values["mortal"] = str(mortal.pid if mortal is not None else 0)
    args = setting.fill(case["args"])
    for path in (out, err):
        Path(path).write_bytes(b"")
    start = time.monotonic()
    process = _Process(_start(case, args, setting, out, err))
    patience = (40.0 if setting.peer else 15.0) * setting.slow
    attached, settled, idle, last, last_spent, looked = 0.0, 0, 0, -1, 0, start
    while time.monotonic() - start < patience and not process.ended():
        found, every, spent = _attachments(process.pid)
        now = time.monotonic()
        if found and not attached:
            attached = now - start
        # ready is what has attached something and hardly computes any more (it may still compile its next function); what never rests
        # is ready when it attaches no more
        idle = idle + 1 if found and (spent - last_spent) / _TICKS < (now - looked) / 4 else 0
        settled = settled + 1 if found and every == last else 0
        last, last_spent, looked = every, spent, now
        if idle >= 2 or settled >= 60:
            break
        time.sleep((0.4 if found else 0.1) if setting.guest else (0.15 if found else 0.05))
    problem, line = "", ""
    if mortal is not None:
        mortal.kill()
        mortal.wait()
    for _ in range(min(case["rounds"], 2) if setting.guest else case["rounds"]):
        if process.ended():
            break
        problem = setting.worker.do(tuple(case["work"]), 15.0 * setting.slow) or problem
        end = time.monotonic() + case["wait"] * (2.0 if setting.guest else 1.0)
        while not line and time.monotonic() < end and not process.ended():
            time.sleep(0.05)
            line = line_of_data(case["tool"], _text(out), case["expect"])
        if line:
            break
    interrupted = not process.ended()
    if interrupted:
        process.signal(signal.SIGINT)
        if not process.ended(48.0 if setting.guest else 20.0):
            process.signal(signal.SIGINT)
            if not process.ended(3.0):
                process.signal(signal.SIGKILL)
                process.ended(5.0)
    process.signal(signal.SIGKILL)  # what the tool started and left
    stdout, stderr = _text(out), _text(err)
    line = line or line_of_data(case["tool"], stdout, case["expect"])
    return {
        "tool": case["tool"], "args": case["args"], "attached": round(attached, 2), "data": line[:200], "status": process.status,
        "interrupted": interrupted, "seconds": round(time.monotonic() - start, 1), "workload": problem, "stdout": _ends(stdout),
        "stderr": _ends(stderr), "peer": setting.peer,
    }  # fmt: skip


def _ends(text: str) -> str:
    """The beginning and the end of a long text."""
    return text if len(text) < 20000 else text[:1500] + "\n...\n" + text[-2400:]


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20).decode("utf-8", "replace")
    except OSError:
        return ""


def _say(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"matrix": event, **fields}) + "\n")
    sys.stdout.flush()


def _import_everything() -> None:
    """So that forks need not."""
    for name in ("argparse", "ctypes", "datetime", "re", "runpy", "socket", "struct", "subprocess", "traceback", "netaddr", "harken.bcc"):
        try:
            __import__(name)
        except Exception as error:
            _say("note", text=f"import {name}: {type(error).__name__}: {error}")
    start = time.monotonic()
    for what in (_first_program, _first_names):
        try:
            what()
        except BaseException as error:
            _say("note", text=f"{what.__name__}: {type(error).__name__}: {error}")
    _say("note", text=f"ready after {time.monotonic() - start:.1f} s")


_FIRST = """
#include <linux/sched.h>
#include <linux/fs.h>
BPF_HASH(table);
BPF_PERF_OUTPUT(events);
int entry(struct pt_regs *ctx, struct file *file) {
    struct task_struct *task = (struct task_struct *)bpf_get_current_task();
    u64 key = file->f_flags + task->pid, value = 1;
    table.update(&key, &value);
    events.perf_submit(ctx, &key, sizeof(key));
    return 0;
}
int back(struct pt_regs *ctx) { return PT_REGS_RC(ctx); }
TRACEPOINT_PROBE(sched, sched_process_exit) { return args->pid == 0; }
"""


def _first_program() -> None:
    """What every tool does first, so that forks find the types, the functions and the features known."""
    from harken.bcc import BPF

    b = BPF(text=_FIRST)
    try:
        BPF.get_kprobe_functions(b"^vfs_re.*")
        b.attach_kprobe(event="vfs_readv", fn_name="entry")
        b.attach_kretprobe(event="vfs_readv", fn_name="back")
        b["events"].open_perf_buffer(lambda *_: None)
    finally:
        b.cleanup()


def _first_names() -> None:
    from harken.bcc import BPF

    BPF.ksymname(b"vfs_read")
    with open("/proc/kallsyms") as file:
        address = int(file.readline().split()[0], 16)
    BPF.ksym(address)
    BPF.support_kfunc()
    BPF.kernel_struct_has_field(b"task_struct", b"pid")


def _prepared(case: dict[str, Any], setting: Setting, runtimes: Runtimes) -> dict[str, Any] | None:
    """Starts the runtimes that a case needs; the case's result if one is not to be had."""
    for name in needed(case["args"], case["tool"]):
        pid = runtimes.pid(name)
        if not pid:
            return {"tool": case["tool"], "args": case["args"], "missing": runtimes.missing(name)}
        setting.values[name] = str(pid)
    return None


def main() -> int:
    """Runs the job that the first argument names."""
    job = json.loads(Path(sys.argv[1]).read_text())
    _prepare(job)
    mounted = not os.path.ismount("/sys/fs/bpf") and subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"]).returncode == 0
    master = terminal()
    if not job.get("peer"):
        _import_everything()
    worker = Worker(job["guest"])
    runtimes = Runtimes(FOLDER)
    maps: list[Any] = []
    try:
        setting = Setting(job, worker)
        maps = _pinned_maps(setting)
        for case in job["cases"]:
            try:
                result = _prepared(case, setting, runtimes) or run_case(case, setting)
                if any(name.endswith("_markers") for name in needed(case["args"], case["tool"])):
                    result["stand_in"] = True
                elif "stand_in" in case["work"] and os.path.exists("/dev/stand_in"):
                    result["stand_in"] = "module"
            except Exception as error:
                result = {"tool": case["tool"], "args": case["args"], "broken": f"{type(error).__name__}: {error}"}
            _say("case", **result)
            if select.select([master], [], [], 0)[0]:
                try:
                    os.read(master, 1 << 16)
                except OSError:
                    pass
    finally:
        runtimes.close()
        worker.close()
        for map in maps:
            map.close()
        for name in ("cgroupmap", "mntnsmap"):
            try:
                os.unlink(f"/sys/fs/bpf/harken_matrix_{'cgroups' if name == 'cgroupmap' else 'mounts'}")
            except OSError:
                pass
        if mounted:
            subprocess.run(["umount", "/sys/fs/bpf"], check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
