"""One-liners as people type them (the idioms of bpftrace's tutorial and tools): harken prints what the installed bpftrace prints.

Each is run by both on the same work: one command, started by ``-c``.  bpftrace 0.17 spells ``args->field``, which both accept.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.oracle

if os.geteuid() != 0 or shutil.which("bpftrace") is None:
    pytest.skip("needs root and bpftrace", allow_module_level=True)

HARKEN = [sys.executable, "-c", "from harken.cli.main import script; script()", "-q"]
#: Marks its own system calls so that other processes do not count: 7 getppid(2), 3 opens of one file, 5 reads and writes of 100 bytes.
WORK = (
    "import os\n"
    "for _ in range(7): os.getppid()\n"
    "for _ in range(3): os.close(os.open('/etc/hostname', os.O_RDONLY))\n"
    "r, w = os.pipe()\n"
    "for _ in range(5): os.write(w, b'x' * 100); os.read(r, 300)\n"
    "os.kill(os.getpid(), 0)"
)
NAME = "qaone"
S = "tracepoint:syscalls:sys_enter_"
X = "tracepoint:syscalls:sys_exit_"
R = "tracepoint:raw_syscalls:sys_enter"
MINE = f'/comm == "{NAME}"/'
HOSTNAME = f'/comm == "{NAME}" && str(args->filename) == "/etc/hostname"/'

#: What both print must be the same.
EXACT = [
    f"{S}getppid {MINE} {{ @[comm] = count(); }}",
    f'{S}getppid {MINE} {{ printf("%s %d\\n", comm, pid == tid); }}',
    f'{S}openat {HOSTNAME} {{ printf("%s %s\\n", comm, str(args->filename)); }}',
    f"{S}openat {HOSTNAME} {{ @[str(args->filename), args->flags & 3] = count(); }}",
    f"{S}openat {HOSTNAME} {{ @opens[args->flags] = count(); }} {S}getppid {MINE} {{ @calls[probe] = count(); }}",
    f"{S}write /comm == \"{NAME}\" && args->count == 100/ {{ @bytes = sum(args->count); @n = count(); }}",
    f"{S}write /comm == \"{NAME}\" && args->count == 100/ {{ @ = hist(args->count); }}",
    f"{S}write /comm == \"{NAME}\" && args->count == 100/ {{ @[comm] = hist(args->count); }}",
    f"{S}write /comm == \"{NAME}\" && args->count == 100/ {{ @ = lhist(args->count, 0, 200, 10); }}",
    f"{S}write /comm == \"{NAME}\" && args->count == 100/ {{ @ = stats(args->count); }}",
    f"{S}write /comm == \"{NAME}\" && args->count == 100/ {{ @a = avg(args->count); @b = min(args->count); @c = max(args->count); }}",
    f"{S}read /comm == \"{NAME}\" && args->count == 300/ {{ @[tid] = 1; }} "
    f"{X}read /@[tid]/ {{ @ret[args->ret] = count(); delete(@[tid]); }}",
    f"{S}read /comm == \"{NAME}\" && args->count == 300/ {{ @t[tid] = nsecs; }}"
    f" {X}read /@t[tid]/ {{ @ok[nsecs - @t[tid] > 0] = count(); delete(@t[tid]); }} END {{ clear(@t); }}",
    f"{X}read /comm == \"{NAME}\" && args->ret == 100/ {{ @ = lhist(args->ret, 0, 1000, 100); }}",
    f"{X}write /comm == \"{NAME}\" && args->ret == 100/ {{ @[args->ret > 50 ? \"big\" : \"small\"] = count(); }}",
    f"{R} /comm == \"{NAME}\" && args->id == 110/ {{ @[args->id] = count(); }}",
    f"{R} /comm == \"{NAME}\" && args->id == 110/ {{ @ = count(); }} END {{ print(@); clear(@); }}",
    f"{S}kill {MINE} {{ printf(\"%d %d\\n\", args->pid == pid, args->sig); }}",
    f"{S}kill {MINE} {{ @[args->sig] = count(); printf(\"PID %-6s sig %-4d|\\n\", \"x\", args->sig); }}",
    f"{S}getppid {MINE} {{ @x++; if (@x == 3) {{ printf(\"third\\n\"); }} }}",
    f"{S}getppid {MINE} {{ $v = @n; @n = $v + 2; @even[@n % 4 == 0 ? 1 : 0] = count(); }}",
    f"{S}getppid {MINE} {{ @[comm, cpu >= 0] = count(); }} END {{ printf(\"end\\n\"); }}",
    f"BEGIN {{ printf(\"%-8s %-5s\\n\", \"TIME\", \"N\"); }} {S}getppid {MINE} {{ @n = count(); }}",
    f"{S}getppid {MINE} {{ @[uid, gid] = count(); }}",
    f"{S}getppid {MINE} {{ @[strncmp(comm, \"qa\", 2)] = count(); }}",
    f"{S}getppid {MINE} {{ @i[1, 2, 3] = count(); @j[(uint8)1] = sum(2); }}",
    f"{S}getppid {MINE} {{ @a = @a + 1; @m = max(@a); }}",
    f"{S}getppid {MINE} {{ @x = (1, \"two\"); }}",
    f"{S}getppid {MINE} {{ $i = 0; while ($i < 4) {{ @loops = count(); $i++; }} }}",
    f"{S}getppid {MINE} {{ unroll(3) {{ @u += 1; }} }}",
    f"{S}getppid {MINE} {{ @[nsecs > 0, elapsed > 0, rand >= 0] = count(); }}",
    f"{S}getppid {MINE} {{ @p[((struct task_struct *)curtask)->tgid == pid] = count(); }}",
    f"{S}getppid,{S}kill {MINE} {{ @[probe] = count(); }}",
    f"{S}getpp* {MINE} {{ @[probe] = count(); }}",
    f"{S}write /comm == \"{NAME}\" && args->count == 100/ {{ printf(\"%r\\n\", buf(args->buf, 4)); }}",
    f"{S}write /comm == \"{NAME}\" && args->count == 100/ {{ printf(\"%s|%s\\n\", str(args->buf, 3), str(args->buf, 50)); }}",
    f"tracepoint:sched:sched_process_exit /comm == \"{NAME}\"/ {{ printf(\"%s %d\\n\", args->comm, args->pid == tid); }}",
    f"tracepoint:sched:sched_process_exit /comm == \"{NAME}\"/ {{ @[args->comm] = count(); }}",
    f"uprobe:{os.path.realpath('/lib/x86_64-linux-gnu/libc.so.6')}:getppid {MINE} {{ @[comm, probe] = count(); }}",
    f"uprobe:{os.path.realpath('/lib/x86_64-linux-gnu/libc.so.6')}:kill {MINE} {{ @[arg1] = count(); }}",
    f"uretprobe:{os.path.realpath('/lib/x86_64-linux-gnu/libc.so.6')}:getppid {MINE} {{ @[retval > 0] = count(); }}",
]  # fmt: skip


def rows(text: str) -> list[str]:
    """Lines that count; map lines in any order, since equal values may come in either; truth as numbers, as 0.17 prints it."""
    text = re.sub(r"\{ \.count = (\d+), \.average = (\d+), \.total = (\d+) \}", r"count \1, average \2, total \3", text)
    text = re.sub(r"\btrue\b", "1", re.sub(r"\bfalse\b", "0", text))
    return sorted(re.sub(r":\s*", ": ", line).rstrip() for line in text.splitlines() if line.strip() and not line.startswith("Attaching"))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("work") / "work.py"
    path.write_text(f"open('/proc/self/comm', 'w').write('{NAME}')\n{WORK}\n")
    return f"/usr/bin/python3 -I -S {path}"


@pytest.mark.parametrize("program", EXACT, ids=range(len(EXACT)))
def test_same_output(program: str, work: str) -> None:
    commands = ["bpftrace", "-c", work, "-e", program], [*HARKEN, "-c", work, "-e", program]
    theirs, ours = (subprocess.run(command, capture_output=True, text=True, timeout=60, check=False) for command in commands)
    assert theirs.returncode == 0, theirs.stderr
    assert ours.returncode == 0 and not ours.stderr, ours.stderr
    assert rows(theirs.stdout), "bpftrace saw nothing: the program compares nothing"
    assert rows(ours.stdout) == rows(theirs.stdout)
