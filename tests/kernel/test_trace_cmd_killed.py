"""Recorders that are killed (SIGKILL) at one moment after the other: what they recorded can be read, and the next start cleans up."""

from __future__ import annotations

import os
import signal

import pytest

from harken.base.errors import FormatError, KernelError
from harken.formats.trace_dat import open_trace
from harken.kernel import tracefs
from harken.kernel.ftrace_journal import sweep_journals
from harken.kernel.kernel import live
from harken.kernel.tracefs_instances import instance_names
from harken.kernel.tracefs_leftovers import sweep_leftovers
from harken.testing.recordings import events_of

pytestmark = [pytest.mark.kernel, pytest.mark.needs("tracefs")]

#: What changes by itself, cannot be read without taking something away, or takes long to list.
_NOT_SETTINGS = frozenset(
    "README available_events available_filter_functions available_filter_functions_addrs available_tracers buffer_total_size_kb "
    "dyn_ftrace_total_info enabled_functions error_log free_buffer kprobe_profile last_boot_info per_cpu printk_formats saved_cmdlines "
    "saved_tgids snapshot stack_max_size stack_trace touched_functions trace trace_marker trace_marker_raw trace_pipe trace_stat "
    "tracing_max_latency uprobe_profile user_events_data user_events_status".split()
)
_EVENTS = ("events", "events/raw_syscalls", "events/raw_syscalls/sys_enter", "events/sched", "events/sched/sched_switch")


def settings(root):
    """Everything that can be set in the top directory, and what is set of the events that are recorded here."""
    names = [name for name in os.listdir(root.root) if name not in _NOT_SETTINGS and os.path.isfile(root.path(name))]
    names += [f"options/{name}" for name in os.listdir(root.path("options"))]
    names += [f"{folder}/{file}" for folder in _EVENTS for file in ("enable", "filter", "trigger")]
    found = {}
    for name in names:
        try:
            found[name] = root.read(name)
        except KernelError:  # there is none, or this kernel does not let it be read
            continue
    # a buffer that was never used before is then what it would be when it is used; sizes are rounded up to whole pages
    size = found["buffer_size_kb"].split()
    found["buffer_size_kb"] = str(int(size[-1].rstrip(")")) // 16)
    return found


def die(*_arguments, **_named):
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner, name):
    """Dies before a function is called."""
    setattr(owner, name, die)


def after(owner, name, times=1):
    """Dies when a function has been called some times."""
    function, left = getattr(owner, name), [times]

    def called(*arguments, **named):
        result = function(*arguments, **named)
        left[0] -= 1
        if not left[0]:
            die()
        return result

    setattr(owner, name, called)


def moment_of(name):
    """Brings it about that this process dies at a moment."""
    from harken.cli.trace_cmd.running import Running
    from harken.cli.trace_cmd.setup import Buffers
    from harken.formats import trace_dat_growing, trace_dat_writer
    from harken.kernel.ftrace_splice import PageStream
    from harken.session import recorder_ftrace
    from harken.session.recorder_ftrace import Recorder

    if name == "no head yet":
        before(recorder_ftrace, "Growing")
    elif name == "buffers are set":
        after(Buffers, "enable")
    elif name == "the head is there":
        before(Recorder, "begin")
    elif name == "threads wait":
        after(Recorder, "begin")
    elif name == "tracing has begun":
        after(Running, "start")
    elif name == "pages were moved":
        recorders, over = [], Running.over
        made = Recorder.__init__

        def make(self, *arguments, **named):
            made(self, *arguments, **named)
            recorders.append(self)

        def look(self):
            # the table of the file is what a reader believes
            with open_trace(recorders[0].path) as trace:
                if sum(trace.size(place.cpu) for place in trace.buffer().cpus) >= 8 * 4096:
                    die()
            return over.fget(self)

        Recorder.__init__, Running.over = make, property(look)
    elif name == "tracing has ended":
        after(Buffers, "stop")
    elif name == "the rest was taken":
        after(PageStream, "flush", 2 if len(os.sched_getaffinity(0)) > 1 else 1)
    elif name == "before it is compact":
        before(trace_dat_growing, "_move")
    elif name == "while it becomes compact":
        after(trace_dat_growing, "_move")
    elif name == "it is finished":
        before(Buffers, "close")
    elif name == "before it is written again":
        before(trace_dat_writer, "write_trace")
    elif name == "while it is written again":
        after(trace_dat_writer, "_write_v7")


#: moment -> whether events must be in what is left behind; None: nothing can be read, since nothing was recorded
MOMENTS = {
    "buffers are set": None,
    "no head yet": None,
    "the head is there": False,
    "threads wait": False,
    "tracing has begun": False,
    "pages were moved": True,
    "tracing has ended": False,
    "the rest was taken": False,
    "before it is compact": True,
    "while it becomes compact": True,
    "it is finished": True,
    "before it is written again": True,
    "while it is written again": True,
}


def kill_at(moment, path, *options):
    """Records in a child that dies at a moment; returns its PID."""
    # the command goes on until the recorder is gone
    command = ["sh", "-c", "while kill -0 $PPID; do :; done"] if moment == "pages were moved" else ["sh", "-c", "cd /; cd /; cd /"]
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"it was not killed: {os.waitstatus_to_exitcode(status)}"
        return child
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        from harken.cli.commands.trace_cmd import run

        moment_of(moment)
        run(["record", "-q", "-o", str(path), *options, "-b", "64", "-e", "raw_syscalls", "-F", "-c", *command])
    finally:
        os._exit(7)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_recorder_killed_when(tmp_path, moment):
    root = tracefs.find(live())
    sweep_journals(root.kernel)
    sweep_leftovers(root.kernel)
    earlier = settings(root)
    path = tmp_path / "trace.dat"
    child = kill_at(moment, path, "--compression", "zlib" if "written again" in moment else "none")
    if MOMENTS[moment] is None:
        if path.exists():
            with pytest.raises(FormatError):
                open_trace(str(path))
    else:
        counts = events_of(path, killed=True)
        assert set(counts) <= {"sys_enter", "sys_exit"}
        assert not MOMENTS[moment] or sum(counts.values()) > 3
    left_over(root, child, earlier)


def test_a_recorder_of_the_top_buffer(tmp_path):
    """Its settings are everybody's: the next start puts them back."""
    root = tracefs.find(live())
    sweep_journals(root.kernel)
    earlier = settings(root)
    path = tmp_path / "trace.dat"
    child = kill_at("pages were moved", path, "--top", "-C", "mono")
    assert set(events_of(path, killed=True)) == {"sys_enter", "sys_exit"}
    left_over(root, child, earlier)


def left_over(root, child, earlier):
    """The next start of harken finds what the child left behind."""
    mine = f"harken_{child}_"
    sweep_journals(root.kernel)  # as the next start of harken does
    sweep_leftovers(root.kernel)
    assert not any(name.startswith(mine) for name in instance_names(root))
    assert settings(root) == earlier
