"""What is run: each tool's own manual page gives the argument variants, and a workload that its probes must see.

Manual pages name things that no test machine has (pid 181, disk sdb, functions of old kernels); `substitute` puts in what
serves the same purpose here.  Placeholders in braces are filled in by the runner: ``{pid}`` the worker, ``{disk}`` a loop device, ...
"""

from __future__ import annotations

import gzip
import re
import shlex
from pathlib import Path
from typing import NamedTuple

__all__ = ("Case", "MANUAL", "TOOLS", "cases", "examples")

TOOLS = Path("/usr/sbin")
MANUAL = Path("/usr/share/man/man8")


class Case(NamedTuple):
    """One run of one tool."""

    tool: str
    args: tuple[str, ...]
    work: tuple[str, ...]
    """Workloads of `worker`, in order; repeated until the tool has shown data."""
    expect: str = ""
    """Regular expression for a line of data; "": any line that is not a heading."""
    rounds: int = 3
    """How often the workloads are run while nothing is shown."""

    @property
    def name(self) -> str:
        return shlex.join((self.tool, *self.args))


#: tool -> workloads that trigger it.  A tool that is not here gets "files", "tcp" and "exec".
WORK: dict[str, str] = {
    **dict.fromkeys(
        ("argdist", "trace", "funccount", "funclatency", "funcslower", "funcinterval", "stackcount"), "calls files exec tcp disk"
    ),
    "bashreadline": "bash",
    "bindsnoop": "listen",
    **dict.fromkeys(("biolatency", "biolatpcts", "biopattern", "biosnoop", "biotop", "bitesize"), "disk"),
    **dict.fromkeys(("btrfsdist", "btrfsslower"), "btrfs"),
    **dict.fromkeys(("ext4dist", "ext4slower"), "ext4"),
    **dict.fromkeys(("xfsdist", "xfsslower"), "xfs"),
    **dict.fromkeys(("nfsdist", "nfsslower", "zfsdist", "zfsslower"), "files"),
    **dict.fromkeys(("cachestat", "cachetop", "dcsnoop", "dcstat", "filetop", "dirtop", "vfsstat", "vfscount", "readahead"), "files disk"),
    "capable": "mount",
    "compactsnoop": "compact",
    "drsnoop": "files",
    **dict.fromkeys(("cpudist", "cpuunclaimed", "profile", "runqlat", "runqlen", "runqslower", "softirqs"), "busy"),
    **dict.fromkeys(("offcputime", "offwaketime", "wakeuptime"), "sleep tcp"),
    "hardirqs": "disk busy",
    "deadlock": "locks",
    "klockstat": "files exec",
    "execsnoop": "exec",
    "exitsnoop": "exec",
    **dict.fromkeys(("pidpersec", "threadsnoop"), "exec threads"),
    **dict.fromkeys(("filegone", "filelife"), "lives"),
    "fileslower": "files ext4",
    "gethostlatency": "names",
    "killsnoop": "signals",
    "memleak": "memory files",
    "mountsnoop": "mount",
    "netqtop": "tcp",
    "oomkill": "oom",
    "opensnoop": "files",
    "shmsnoop": "shm",
    "slabratetop": "files exec",
    "sofdsnoop": "passfd",
    "solisten": "listen",
    "sslsniff": "tls",
    "statsnoop": "files",
    "syncsnoop": "sync",
    "syscount": "files fail",
    "tcpdrop": "drop",
    **dict.fromkeys(("tcpretrans", "tcpcong"), "retransmit tcp"),
    **dict.fromkeys(
        ("tcpaccept", "tcpconnect", "tcpconnlat", "tcplife", "tcprtt", "tcpstates", "tcpsubnet", "tcpsynbl", "tcptop", "tcptracer"), "tcp"
    ),
    "ttysnoop": "tty",
    "virtiostat": "disk",
    **dict.fromkeys(
        ("pythoncalls", "pythonflow", "pythongc", "pythonstat", "ucalls", "uflow", "ugc", "ustat", "uobjnew", "uthreads"), "python"
    ),
}

#: Tools whose manual page has no example (or none that can serve): what is run instead, or as well.
MORE: dict[str, tuple[str, ...]] = {
    "bindsnoop": ("", "-t", "-w", "-p {pid}", "-P 8081", "-U"),
    "inject": ("kmalloc '__x64_sys_mount()'",),
    "mountsnoop": ("",),
    **dict.fromkeys(("ext4slower", "btrfsslower", "xfsslower", "nfsslower", "zfsslower", "fileslower"), ("0",)),
    "syncsnoop": ("",),
    "pidpersec": ("",),
    "mdflush": ("",),
    "trace": (
        "'do_sys_openat2 \"%s\", arg2@user'",
        "'c:malloc \"size = %d\", arg1'",
        "'r:bash:readline \"%s\", retval'",
        "'t:block:block_rq_complete \"%d sectors\", args->nr_sector'",
        "'t:sched:sched_process_exec'",
        "-p {pid} 'c:write(int fd, const void *buf, size_t count) \"%d %d\", fd, count'",
        "-K 'vfs_write'",
        "-U -p {pid} 'c:getaddrinfo'",
        "'p::vfs_read(struct file *file, char *buf, size_t count) \"%d %s\", count, file->f_path.dentry->d_name.name'",
    ),
    "dcsnoop": ("",),
    "reset-trace": ("",),
    "tplist": ("", "-v 'net:*'", "-l /usr/bin/python3"),
    "pythoncalls": ("{python}", "-m {python}"),
    "pythonflow": ("{python}",),
    "pythongc": ("{python}",),
    "pythonstat": ("1 2",),
    "ucalls": ("-l python {python}", "-S {pid}"),
    "uflow": ("-l python {python}",),
    "ugc": ("-l python {python}",),
    "uobjnew": ("-l c {pid}",),
    "cobjnew": ("{pid}",),
    "ustat": ("-l python 1 2",),
    "uthreads": ("{pid}",),
    "ttysnoop": ("{tty}",),
    "memleak": ("-p {pid} -a 2 2", "2 2"),
    "virtiostat": ("1 3",),
    "netqtop": ("-n lo -i 1",),
    "deadlock": ("{pid} --binary {libc}",),
    "sslsniff": ("--no-nss --no-gnutls",),
}

_INTERPRETERS = ("java", "node", "perl", "php", "ruby", "tcl")

#: (tools, pattern, replacement) on one example as text, in order.
_EVERY = "*"
_RULES: tuple[tuple[str, str, str], ...] = (
    (_EVERY, r"--cgroupmap \S+", "--cgroupmap {cgroupmap}"),
    (_EVERY, r"--mntnsmap \S+", "--mntnsmap {mntnsmap}"),
    (_EVERY, r"`pidof -s top`", "{pid}"),
    ("runqlat", r"-P \d+", "-P"),
    ("killsnoop", r"-T 189", "-T {pid}"),
    ("kvmexit", r"127\d+", "{pid}"),
    ("klockstat", r"-t 321", "-t {pid}"),
    ("sofdsnoop", r"-t 123", "-t {pid}"),
    ("profile", r"-L 181", "-L {pid}"),
    ("deadlock", r"^181", "{pid}"),
    ("solisten", r"-p 1234", "-p {pid}"),
    ("solisten", r"--netns 4242", "--netns {netns}"),
    ("tcptracer", r"-N \d+", "-N {netns}"),
    (_EVERY, r"(-p|-Cp) \d{3,}", r"\1 {pid}"),
    (_EVERY, r"-u 1000\b", "-u 0"),
    ("execsnoop", r"-n mount", "-n true"),
    ("execsnoop", r"-l testpkg", "-l true"),
    (_EVERY, r"-n (ed|main|server|mond)\b", "-n {comm}"),
    ("biolatpcts", r"(sda|/dev/nvme0n1)", "{disk}"),
    ("biopattern", r"-d sdb", "-d {diskname}"),
    ("dirtop", r"-d\s+\S+", "-d '{folder}'"),
    ("netqtop", r"-n eth0", "-n lo"),
    ("tcprtt", r"192\.168\.1\.100", "127.0.0.1"),
    ("tcpcong", r"-L 3000-3006", "-L 80-81"),
    ("tcpcong", r"-R 5000-5005", "-R 80-81"),
    ("memleak", r"-c ./allocs", "-c 'sleep 3'"),
    ("memleak", r"\"./allocs\"", "'sleep 3'"),
    ("deadlock", r"/lib/x86_64-linux-gnu/libpthread.so.0|/usr/local/bin/lockinversion", "{libc}"),
    ("ttysnoop", r"/dev/pts/2|\b2$", "{tty}"),
    ("funcinterval", r"/usr/local/bin/python:main", "c:getpid"),
    ("funcinterval", r"xhci_ring_ep_doorbell", "tcp_sendmsg"),
    (_EVERY, r"\bdo_sys_open\b", "do_sys_openat2"),
    (_EVERY, r"\b__vfs_read\b", "vfs_read"),
    ("funcslower", r"SyS_write", "ksys_write"),
    (_EVERY, r"vfs_fstat\*", "vfs_fstat*"),
    ("stackcount", r"ip_output", "ip_queue_xmit"),
    # the page's own mistakes
    ("argdist", r":u32:nr_sector", ":u32:args->nr_sector"),
    ("argdist", r":int:irq", ":int:args->irq"),
    ("argdist", r";fork per process", "#fork per process"),
    ("argdist", r"struct timespec", "struct __kernel_timespec"),
    ("argdist", r"u:pthread:pthread_start\(\)", "u:c:pthread_start()"),
    (_EVERY, r"u:pthread:", "u:c:"),
)


def examples(tool: str) -> list[str]:
    """The commands of a manual page's EXAMPLES, without the tool's name."""
    page = MANUAL / f"{tool}-bpfcc.8.gz"
    if not page.is_file():
        return []
    text = gzip.decompress(page.read_bytes()).decode("utf-8", "replace")
    section = re.search(r"^\.SH EXAMPLES?(.*?)^\.SH", text, re.S | re.M)
    found = []
    lines = section.group(1).splitlines() if section else []
    for number, line in enumerate(lines):
        if line.strip() == "#" and number + 1 < len(lines):
            line = "#" + lines[number + 1]
        if not line.startswith("#"):
            continue
        line = re.sub(r"^\.(B|BR|BI|I)\s+", "", line[1:].strip())
        for escaped, plain in (("\\-", "-"), ("\\(aq", "'"), ("\\e", "\\"), ("\\fB", ""), ("\\fR", ""), ("\\fP", "")):
            line = line.replace(escaped, plain)
        name, _, rest = line.strip().partition(" ")
        if name:
            found.append(rest.strip())
    return found


def substitute(tool: str, text: str) -> str:
    """An example with the manual page's inventions replaced."""
    for tools, pattern, replacement in _RULES:
        if tools in (_EVERY, tool):
            text = re.sub(pattern, replacement, text)
    return text


def tools() -> list[str]:
    """Every tool that the package has, those for one interpreter after the others."""
    names = sorted(path.name.removesuffix("-bpfcc") for path in TOOLS.glob("*-bpfcc"))
    names += [name for name in ("ucalls", "uflow", "ugc", "uobjnew", "ustat", "uthreads") if (TOOLS / name).exists()]
    return sorted(names, key=lambda name: (name.startswith(_INTERPRETERS), name))


def script(tool: str) -> Path:
    """The file of a tool."""
    path = TOOLS / f"{tool}-bpfcc"
    return path if path.exists() else TOOLS / tool


def cases(only: frozenset[str] = frozenset(), every: bool = False) -> list[Case]:
    """What is to be run.

    Args:
        only: these tools; empty: all.
        every: all variants; else each tool's first one.
    """
    found = []
    for tool in tools():
        if only and tool not in only:
            continue
        texts = list(MORE.get(tool, ()))
        interpreted = tool.startswith((*_INTERPRETERS, "python", "cobjnew"))
        if tool not in ("trace", "ttysnoop", "netqtop", "reset-trace", "ucalls", "uflow", "ugc", "uobjnew", "ustat", "uthreads"):
            texts += [substitute(tool, text) for text in ([] if interpreted else examples(tool))]
        if tool.startswith(_INTERPRETERS):
            texts = ["{pid}"] if not tool.endswith("stat") else ["1 1"]
        seen: set[tuple[str, ...]] = set()
        for text in texts or [""]:
            try:
                args = tuple(shlex.split(text))
            except ValueError:
                continue
            if args not in seen:
                seen.add(args)
                work = tuple(WORK.get(tool, "files tcp exec").split())
                found.append(Case(tool, args, work, _EXPECT.get(tool, ""), _ROUNDS.get(tool, 3)))
            if not every:
                break
    return found


#: What a line of data looks like, where the general rule would take a heading for one.
_EXPECT: dict[str, str] = {
    "bindsnoop": r"^\d+\s+\S+\s+\S+\s+\S+\s+8081",
    "biotop": r"^\d+ .*\d+\.\d+$",
    "tcptop": r"\d+\.\d+\.\d+\.\d+:\d+",
    "filetop": r"^\d+ .* [RDOS] ",
    "bpflist": r"^\d+\s+\S+",
    "tcpsubnet": r"/\d+\s+\d+",
    "netqtop": r"^(\d+|Total)\s+\d",
}

_ROUNDS: dict[str, int] = {"drsnoop": 1, "mdflush": 1, "virtiostat": 1, "nfsdist": 1, "nfsslower": 1, "zfsdist": 1, "zfsslower": 1}
