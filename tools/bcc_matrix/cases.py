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

__all__ = ("Case", "MANUAL", "RUNTIMES", "TOOLS", "cases", "examples")

TOOLS = Path("/usr/sbin")
MANUAL = Path("/usr/share/man/man8")


class Case(NamedTuple):
    """One run of one tool."""

    tool: str
    args: tuple[str, ...]
    work: tuple[str, ...]
    """Workloads of `worker`, in order; repeated until the tool has shown data."""
    expect: str = ""
    """Regular expression for a line of data; "": what `data` says of the tool."""
    rounds: int = 3
    """How often the workloads are run while nothing is shown."""
    wait: float = 1.3
    """Seconds until a round of the workloads must have shown something."""

    @property
    def name(self) -> str:
        return shlex.join((self.tool, *self.args))


#: tool -> workloads that trigger it.  A tool that is not here gets "files", "tcp" and "exec".
WORK: dict[str, str] = {
    **dict.fromkeys(("argdist", "trace", "funccount", "funclatency", "funcslower", "stackcount"), "calls stdout files exec tcp disk"),
    "bashreadline": "bash",
    "bindsnoop": "listen",
    **dict.fromkeys(("biolatency", "biolatpcts", "biopattern", "biosnoop", "biotop", "bitesize"), "disk"),
    **dict.fromkeys(("btrfsdist", "btrfsslower"), "btrfs"),
    **dict.fromkeys(("ext4dist", "ext4slower"), "ext4"),
    **dict.fromkeys(("xfsdist", "xfsslower"), "xfs"),
    **dict.fromkeys(("nfsdist", "nfsslower"), "nfs"),
    **dict.fromkeys(("criticalstat", "llcstat", "ppchcalls", "zfsdist", "zfsslower"), "files stand_in"),
    **dict.fromkeys(("cachestat", "cachetop", "dcsnoop", "dcstat", "filetop", "dirtop", "vfsstat", "vfscount"), "files disk"),
    "readahead": "mapped",
    "capable": "mount",
    "compactsnoop": "compact",
    "drsnoop": "pressure",
    "mdflush": "raid",
    **dict.fromkeys(("cpudist", "cpuunclaimed", "profile", "runqlat", "runqlen", "runqslower", "softirqs"), "busy"),
    **dict.fromkeys(("offcputime", "offwaketime", "wakeuptime"), "sleep tcp"),
    "hardirqs": "disk console busy",
    "deadlock": "locks",
    "klockstat": "files exec calls",
    "funcinterval": "calls stdout files exec tcp disk pressure",
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
    "statsnoop": "files missing",
    "syncsnoop": "sync",
    "syscount": "files fail",
    "tcpdrop": "drop congested refused",
    "tcpretrans": "retransmit congested",
    "tcpcong": "congested",
    **dict.fromkeys(
        ("tcpaccept", "tcpconnect", "tcpconnlat", "tcplife", "tcprtt", "tcpstates", "tcpsubnet", "tcpsynbl", "tcptop", "tcptracer"), "tcp"
    ),
    "ttysnoop": "tty",
    "uobjnew": "memory runtime",
    "virtiostat": "virtio disk",
}

#: Tools whose manual page has no example (or none that can serve): what is run instead, or as well.
MORE: dict[str, tuple[str, ...]] = {
    "bindsnoop": ("", "-t", "-w", "-p {pid}", "-P 8081", "-U"),
    "inject": ("kmalloc '__x64_sys_mount()'", "bio 'submit_bio()'"),
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
    "reset-trace": ("-v", ""),
    "tplist": ("", "-v 'net:*'", "-l /usr/bin/python3"),
    "cobjnew": ("{pid}",),
    "dbslower": ("-m 0 postgres", "postgres -m 1 -p {postgres}"),
    "dbstat": ("-i 1 postgres", "postgres -u -i 1 -p {postgres}"),
    "mysqld_qslower": ("{postgres} 0",),
    "javacalls": ("{java}", "-L {java}", "-S {java}"),
    "javaflow": ("{java}", "-M outer {java}"),
    "javagc": ("{java}", "-m {java}"),
    "javaobjnew": ("{java}", "-S 5 {java}"),
    "javastat": ("1 2",),
    "javathreads": ("{java}", "{java_threads_markers}"),
    "nodegc": ("{node}", "{node_markers}"),
    "nodestat": ("1 2",),
    "perlcalls": ("{perl}", "{perl_markers}", "-L {perl_markers}"),
    "perlflow": ("{perl}", "{perl_markers}"),
    "perlstat": ("1 2",),
    "phpcalls": ("{php}", "-L {php}"),
    "phpflow": ("{php}", "-M outer {php}"),
    "phpstat": ("1 2",),
    "pythoncalls": ("{python}", "-m {python}", "-L {python}"),
    "pythonflow": ("{python}",),
    "pythongc": ("{python}",),
    "pythonstat": ("1 2",),
    "rubycalls": ("{ruby}", "-L {ruby}"),
    "rubyflow": ("{ruby}", "-M outer {ruby}"),
    "rubygc": ("{ruby}",),
    "rubyobjnew": ("{ruby}", "-C 5 {ruby}"),
    "rubystat": ("1 2",),
    "tclcalls": ("{tclsh}", "{tclsh_markers}"),
    "tclflow": ("{tclsh}", "{tclsh_markers}"),
    "tclobjnew": ("{tclsh}", "{tclsh_markers}"),
    "tclstat": ("1 2",),
    "ucalls": ("-l python {python}", "-l none -S {pid}", "-l ruby {ruby}"),
    "uflow": ("-l python {python}",),
    "ugc": ("-l python {python}", "-l java {java}"),
    "uobjnew": ("-l c {pid}", "-l ruby {ruby}"),
    "ustat": ("-l python 1 2", "-l java -C 1 2"),
    "uthreads": ("-l none {pid}", "-l none {threads_markers}"),
    "ttysnoop": ("{tty}",),
    "memleak": ("-p {pid} -a 2 2", "2 2"),
    "readahead": ("",),
    "virtiostat": ("1 3",),
    "netqtop": ("-n lo -i 1",),
    "deadlock": ("{pid} --binary {libc}",),
    "sslsniff": ("--no-nss --no-gnutls",),
}

_INTERPRETERS = ("java", "node", "perl", "php", "ruby", "tcl")
#: tools that watch runtimes of languages and databases (see `runtimes`)
RUNTIMES = (*_INTERPRETERS, "python", "ucalls", "uflow", "ugc", "uobjnew", "ustat", "uthreads", "dbslower", "dbstat", "mysqld_qslower")

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
    ("deadlock", r"^(\{pid\}) (--dump-graph|--verbose)", r"\1 --binary {libc} \2"),
    ("funccount", r"-c 1\b", "-c 0"),
    ("stackcount", r"-c 1\b", "-c 0"),
    ("virtiostat", r"-d virtio_blk", "-d virtio_rng"),
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
    ("memleak", r"(-c )?\"?./allocs\"?", "-c 'openssl genrsa 16384'"),
    ("deadlock", r"/lib/x86_64-linux-gnu/libpthread.so.0|/usr/local/bin/lockinversion", "{libc}"),
    ("ttysnoop", r"/dev/pts/2|\b2$", "{tty}"),
    ("funcinterval", r"/usr/local/bin/python:main", "c:getpid"),
    ("funcinterval", r"xhci_ring_ep_doorbell", "tcp_sendmsg"),
    (_EVERY, r"\bdo_sys_open\b", "do_sys_openat2"),
    (_EVERY, r"\b__vfs_read\b", "vfs_read"),
    ("funcslower", r"SyS_write", "ksys_write"),
    ("inject", r"SyS_mount", "__x64_sys_mount"),
    ("exitsnoop", r"-p \{pid\}", "-p {mortal}"),
    ("funccount", r"t:sched:sched_fork", "t:sched:sched_process_fork"),
    ("funccount", r"-p \{pid\} u:node:gc\*", "-p {python} u:/usr/bin/python3.11:gc*"),
    ("argdist", r"r:c:gets\(\)", "r:c:getenv()"),
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
        if tool not in ("cobjnew", "trace", "ttysnoop", "netqtop", "reset-trace") and not tool.startswith(RUNTIMES):
            texts += [substitute(tool, text) for text in examples(tool)]
        seen: set[tuple[str, ...]] = set()
        for text in texts or [""]:
            try:
                args = tuple(shlex.split(text))
            except ValueError:
                continue
            if args not in seen:
                seen.add(args)
                work = tuple(WORK.get(tool, "runtime" if tool.startswith(RUNTIMES) else "files tcp exec").split())
                found.append(Case(tool, args, work, "", _ROUNDS.get(tool, 3), _WAIT.get(tool, 1.3)))
            if not every:
                break
    return found


#: tools that print at longer intervals
_WAIT: dict[str, float] = {"memleak": 6.0, "cachetop": 4.0, "inject": 0.5}
_ROUNDS: dict[str, int] = {"memleak": 2, "bpflist": 1, "reset-trace": 1}
