"""``harken record``: record kernel events and calls into a file while a command runs, or until Ctrl-C.

::

    harken record make                          # switches, wakings, forks and system calls of make and its children
    harken record -e sched -e 'net:*' -d 10     # everything of these for ten seconds
    harken record -p function_graph -g vfs_read cat /etc/hostname
    harken record --profile ls                  # for harken report --profile

The options are those of ``harken trace-cmd record`` with other defaults: with a command, only it and its children are recorded unless
``-a`` asks for everybody; buffers are larger (8 MB per CPU), so less is lost; on a terminal, counters show how it goes.
"""

from __future__ import annotations

from ...base.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..trace_cmd.record_options import Setup

__all__ = ("NAME", "HELP", "prepared", "run")

NAME = "record"
HELP = "record events and calls of the kernel into a file"

_BUFFER_KB = 8192
_DEFAULT = ("sched:sched_switch", "sched:sched_wakeup", "sched:sched_wakeup_new", "sched:sched_process_*", "raw_syscalls")

USAGE = """\
USAGE: harken record [OPTIONS] [COMMAND ...]

    -e EVENT      record events: SYSTEM:EVENT, a system, a name, with * and ?; without any: scheduling and system calls
    -f FILTER     only if this holds, for the events before it
    -R TRIGGER    a trigger of the events before it
    -p TRACER     function, function_graph, ...
    -g FUNCTION   graph this function and what it calls       -l FUNCTION   only this one       -n FUNCTION   not this one
    -P PID,...    only these tasks; -c their children too
    -a            everybody, not only the command and its children
    -d SECONDS    so long, then end
    -b KB         buffer of each CPU (default: 8192)
    -o FILE       default: trace.dat
    -q            say nothing
    --profile     what 'harken report --profile' wants
    All others of 'harken trace-cmd record --help' are taken as well.

EXAMPLES:
    harken record make                       scheduling and system calls of make and its children
    harken record -e sched -e 'net:*' -d 10  all events of these for ten seconds
    harken record -p function_graph -g vfs_read cat /etc/hostname
    harken report                            shows trace.dat, which any of them has written
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    from ..trace_cmd.record import record

    setup = prepared(argv)
    if setup.help:
        print(USAGE, end="")
        return 0
    return record(setup)


def prepared(argv: list[str]) -> Setup:
    """A command line with harken's defaults.

    Raises:
        UsageError: it is wrong.
    """
    from ..trace_cmd.record import watch_for_profile
    from ..trace_cmd.record_options import EventSetup, parse_setup

    words, duration, everybody = _own(argv)
    setup = parse_setup(words)
    setup.summary = True
    setup.duration = duration
    usual = not setup.profile and all(buffer.empty for buffer in setup.buffers)
    watch_for_profile(setup)
    if usual:
        for pattern in _DEFAULT:
            event = EventSetup(pattern)
            event.optional = True
            setup.buffers[0].events.append(event)
    if setup.command and not everybody and not setup.pids:
        setup.filter_command = setup.children = True
    for buffer in setup.buffers:
        buffer.size_kb = buffer.size_kb or _BUFFER_KB
    return setup


def _own(argv: list[str]) -> tuple[list[str], float | None, bool]:
    """Takes ``-d SECONDS`` and ``-a`` out, which mean something else to trace-cmd."""
    from ..trace_cmd.record_options import LETTERS

    words: list[str] = []
    duration: float | None = None
    everybody = False
    at = 0
    while at < len(argv):
        word = argv[at]
        at += 1
        if word in ("-d", "--duration"):
            if at >= len(argv):
                raise UsageError(f"{word} needs a number of seconds")
            duration = _seconds(argv[at])
            at += 1
        elif word.startswith("-d") and word[2:3].isdigit():
            duration = _seconds(word[2:])
        elif word in ("-a", "--all"):
            everybody = True
        elif word == "--" or not word.startswith("-"):
            words += [word, *argv[at:]]
            break
        else:
            words.append(word)
            index = LETTERS.find(word[-1])
            takes_value = word.startswith("--") and "=" not in word and word[2:] in _LONG
            if (not word.startswith("--") and len(word) == 2 and index >= 0 and LETTERS[index + 1 : index + 2] == ":") or takes_value:
                words += argv[at : at + 1]
                at += 1
    return words, duration, everybody


_LONG = frozenset("max-graph-depth cmdlines-size user module compression file-version ts-offset temp subbuf-size buffer-percent".split())


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a number of seconds") from None
    if not 0 < value < 1e9:
        raise UsageError(f"{text!r} is not a duration")
    return value
