"""Runs one script written for BCC with a stand-in for its package, and prints the texts that it would compile, one JSON line each.

Not imported: ``test_bcc_corpus`` starts it with the distribution's Python, as ``bcc_corpus_runner.py SCRIPT COMMAND-LINES FULL``: a JSON
list of command lines, and "1" to try every option that the script declares as well.  Each variant (command line, answers about the
kernel) runs in a forked child, which ends at the first ``BPF(...)``.
"""

import json
import os
import runpy
import signal
import sys
import types

FOUND = []
OPTIONS = []
MODE = {}


class Finished(BaseException):
    """The text is known."""


class Anything:
    """Answers to everything with itself."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    def __call__(self, *args, **kwargs):
        return Anything()

    def __iter__(self):
        return iter(())

    def __getitem__(self, key):
        return Anything()


class BPF:
    KPROBE, TRACEPOINT, RAW_TRACEPOINT, PERF_EVENT, XDP, SCHED_CLS, SOCKET_FILTER = 2, 5, 17, 7, 6, 3, 1

    def __init__(self, src_file=b"", hdr_file=b"", text=None, debug=0, cflags=(), usdt_contexts=(), **rest):
        if text is None:
            path = src_file.decode() if isinstance(src_file, bytes) else src_file
            for folder in ("", os.path.dirname(sys.argv[0])):
                if os.path.exists(os.path.join(folder, path)):
                    path = os.path.join(folder, path)
                    break
            with open(path) as file:
                text = file.read()
        if isinstance(text, bytes):
            text = text.decode()
        if not text.strip():
            return  # a script that only asks the class something
        for context in usdt_contexts:
            text = context.get_text() + text
        FOUND.append((text, [flag.decode() if isinstance(flag, bytes) else flag for flag in cflags]))
        raise Finished

    @staticmethod
    def kernel_struct_has_field(struct, field):
        return MODE["fields"]

    @staticmethod
    def tracepoint_exists(category, event):
        return MODE["tracepoints"]

    @staticmethod
    def support_kfunc():
        return MODE["kfunc"]

    support_raw_tracepoint = support_raw_tracepoint_in_module = support_fmod_ret = support_lsm = support_kfunc

    @staticmethod
    def get_kprobe_functions(pattern):
        return [b"vfs_read", b"blk_account_io_done", b"blk_account_io_start"] if MODE["functions"] else []

    @staticmethod
    def ksymname(name):
        return 0xFFFFFFFF81000000

    @staticmethod
    def get_syscall_fnname(name):
        return b"__x64_sys_" + (name if isinstance(name, bytes) else name.encode())

    get_syscall_prefix = staticmethod(lambda: b"__x64_sys_")
    get_user_functions = staticmethod(lambda *_: [b"malloc"])
    get_user_addresses = staticmethod(lambda *_: [4096])
    get_user_functions_and_addresses = staticmethod(lambda *_: ([b"malloc"], [4096]))
    get_tracepoints = staticmethod(lambda pattern: [b"sched:sched_switch", b"sched:sched_wakeup"])
    find_library = staticmethod(lambda name: "/lib/x86_64-linux-gnu/libc.so.6")
    find_exe = staticmethod(lambda name: "/bin/true")
    generate_auto_includes = classmethod(lambda cls, words: "")
    monotonic_time = staticmethod(lambda: 0)
    num_open_kprobes = num_open_uprobes = num_open_tracepoints = staticmethod(lambda: 1)
    get_kprobe_functions_and_addresses = get_kprobe_functions
    sym = ksym = staticmethod(lambda *a, **k: b"x")


class USDT:
    def __init__(self, pid=None, path=None):
        self.pid = pid

    def enable_probe(self, probe=None, fn_name=None):
        pass

    enable_probe_or_bail = enable_probe

    def get_text(self):
        return ""

    def enumerate_probes(self):
        return []

    def get_probe_arg_ctype(self, probe, number):
        return "u64"

    def get_context(self):
        return 0


class ArgString:
    def __init__(self, text):
        self.text = text

    def __bytes__(self):
        return self.text.encode()

    def __str__(self):
        return self.text


def stand_in():
    """Puts ``bcc`` and its submodules into ``sys.modules``."""

    class Lazy(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return Anything()

    bcc = Lazy("bcc")
    bcc.BPF, bcc.USDT = BPF, USDT
    bcc.__path__ = []
    names = {}
    utils = Lazy("bcc.utils")
    utils.ArgString, utils.printb = ArgString, lambda *a, **k: None
    utils.get_online_cpus = utils.get_possible_cpus = lambda: [0, 1]
    utils.detect_language = lambda languages, pid: None
    names["utils"] = utils
    containers = Lazy("bcc.containers")

    def filter_by_containers(args):
        text = "static inline int container_should_be_filtered() { return 0; }\n"
        if getattr(args, "cgroupmap", None):
            text = (
                'BPF_TABLE_PINNED("hash", u64, u64, cgroupset, 1024, "/sys/fs/bpf/x");\n'
                "static inline int _cgroup_filter() { u64 id = bpf_get_current_cgroup_id(); return cgroupset.lookup(&id) == NULL; }\n"
                "static inline int container_should_be_filtered() { return _cgroup_filter(); }\n"
            )
        if getattr(args, "mntnsmap", None):
            text = (
                "#include <linux/nsproxy.h>\n#include <linux/mount.h>\n#include <linux/ns_common.h>\n"
                "struct mnt_namespace { atomic_t count; struct ns_common ns; };\n"
                'BPF_TABLE_PINNED("hash", u64, u32, mount_ns_set, 1024, "/sys/fs/bpf/y");\n'
                "static inline int _mntns_filter() { struct task_struct *t = (struct task_struct *)bpf_get_current_task();\n"
                "u64 id = t->nsproxy->mnt_ns->ns.inum; return mount_ns_set.lookup(&id) == NULL; }\n"
                "static inline int container_should_be_filtered() { return _mntns_filter(); }\n"
            )
        return text

    containers.filter_by_containers = filter_by_containers
    names["containers"] = containers
    syscall = Lazy("bcc.syscall")
    syscall.syscall_name = lambda number: b"read"
    syscall.syscalls = {0: b"read", 1: b"write", 257: b"openat"}
    names["syscall"] = syscall
    for name in ("table", "usdt", "perf", "tcp", "libbcc", "exec", "version"):
        names[name] = Lazy("bcc." + name)
    sys.modules["bcc"] = bcc
    for name, module in names.items():
        sys.modules["bcc." + name] = module
        setattr(bcc, name, module)


def watch_options():
    """Notes the options that the script declares."""
    import argparse

    original = argparse.ArgumentParser.parse_args

    def parse_args(self, *args, **kwargs):
        OPTIONS[:] = [
            (
                action.option_strings,
                action.nargs,
                [str(c) for c in action.choices] if action.choices else [],
                getattr(action.type, "__name__", ""),
            )
            for action in self._actions
        ]
        return original(self, *args, **kwargs)

    argparse.ArgumentParser.parse_args = parse_args


def once(script, argv, mode, fd):
    """One run in a child; its findings go to ``fd``."""
    signal.alarm(3)
    null = os.open(os.devnull, os.O_RDWR)
    for target in (0, 1, 2):
        os.dup2(null, target)
    MODE.update(mode)
    sys.argv = [script, *argv]
    problem = ""
    try:
        runpy.run_path(script, run_name="__main__")
    except Finished:
        pass
    except BaseException as error:
        problem = f"{type(error).__name__}: {error}"
    with os.fdopen(fd, "w") as out:
        json.dump({"argv": argv, "mode": mode, "found": FOUND, "options": OPTIONS, "problem": problem}, out)
    os._exit(0)


def run(script, argv, mode):
    import select

    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        once(script, argv, mode, writing)
    os.close(writing)
    data = b""
    while True:
        ready, _, _ = select.select([reading], [], [], 30)
        if not ready:
            os.kill(child, 9)
            break
        part = os.read(reading, 1 << 16)
        if not part:
            break
        data += part
    os.close(reading)
    os.waitpid(child, 0)
    try:
        return json.loads(data)
    except ValueError:
        return {"argv": argv, "mode": mode, "found": [], "options": [], "problem": "no answer"}


MODES = (
    {"kfunc": True, "tracepoints": True, "fields": 1, "functions": True},
    {"kfunc": False, "tracepoints": False, "fields": 0, "functions": True},
    {"kfunc": False, "tracepoints": True, "fields": 1, "functions": False},
    {"kfunc": True, "tracepoints": False, "fields": -1, "functions": True},
)


def main():
    script, command_lines, full = sys.argv[1], json.loads(sys.argv[2]) or [[]], sys.argv[3] == "1"
    stand_in()
    watch_options()
    results = [run(script, argv, mode) for argv in command_lines for mode in (MODES if full else MODES[:1])]
    options = next((result["options"] for result in results if result["options"]), [])
    for strings, nargs, choices, _kind in options if full else ():
        if not strings or strings[0] in ("-h", "--help", "--ebpf"):
            continue
        values = [[]] if nargs == 0 else [[choice] for choice in choices or ["1"]]
        for value in values:
            results += [run(script, [*command_lines[0], strings[0], *value], mode) for mode in MODES[:2]]
    seen = set()
    for result in results:
        for text, cflags in result["found"]:
            key = (text, tuple(cflags))
            if key not in seen:
                seen.add(key)
                print(json.dumps({"script": os.path.basename(script), "argv": result["argv"], "text": text, "cflags": cflags}))
    if not seen:
        print(json.dumps({"script": os.path.basename(script), "problem": results[0]["problem"]}))


if __name__ == "__main__":
    main()
