"""The options that record, start, set, stream, profile and extract share: argv -> ``Setup``, one ``BufferSetup`` per buffer.

Order matters: ``-f``, ``-R`` and ``-v`` bind to events, and everything behind ``-B NAME`` belongs to that buffer.

Example:
    >>> setup = parse_setup(["-p", "function_graph", "-g", "do_sys_open", "-O", "funcgraph-proc", "ls"])
    >>> setup.buffers[0].tracer, setup.buffers[0].graph, setup.buffers[0].options, setup.command
    ('function_graph', ['do_sys_open'], ['funcgraph-proc'], ['ls'])
    >>> setup = parse_setup(["-e", "sched", "-f", "pid > 1", "-v", "-e", "*stat*", "-B", "irqs", "-e", "irq"])
    >>> [(buffer.name, [(event.pattern, event.filter, event.negated) for event in buffer.events]) for buffer in setup.buffers]
    [('', [('sched', 'pid > 1', False), ('*stat*', '', True)]), ('irqs', [('irq', '', False)])]
"""

from __future__ import annotations

from ...base.errors import UsageError
from .arguments import number, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("EventSetup", "BufferSetup", "Setup", "parse_setup", "refuse_file", "LETTERS", "NAMES")

LETTERS = "hae:f:FA:p:cC:dDn:g:l:o:O:s:r:V:P:N:tb:B:kKSiTm:M:R:H:GqvX:"
NAMES = tuple(
    "by-comm profile stderr nosplice nofifos func-stack max-graph-depth= date cmdlines-size= no-filter proc-map user= module= "
    "tsync-interval= poll name= tsc2nsec compression= file-version= ts-offset= quiet temp= subbuf-size= notimeout daemonize verbose? "
    "proxy= fork help top buffer-percent=".split()
)

_REFUSED = {
    "A": "recording in a guest (-A) needs trace-cmd's agent protocol",
    "V": "vsock (-V) is not supported",
    "proxy": "proxies for guests are not supported",
    "name": "-A and --name are about guests",
    "tsync-interval": "clocks of guests are not synchronised",
}


class EventSetup:
    """One ``-e``: ``negated`` takes events away from what is chosen before; ``quiet`` sets filters and triggers without enabling."""

    def __init__(self, pattern: str, negated: bool = False) -> None:
        self.pattern = pattern
        self.negated = negated
        self.filter = ""
        self.triggers: list[str] = []
        self.optional = False  # not an error where the kernel does not have it


class BufferSetup:
    """What is wanted of one buffer; ``name`` is "" for the one without ``-B``."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.delete = False
        self.tracer = ""
        self.tracer_optional = False
        self.events: list[EventSetup] = []
        self.functions: list[str] = []
        self.notrace: list[str] = []
        self.graph: list[str] = []
        self.graph_notrace: list[str] = []
        self.module = ""
        self.options: list[str] = []
        self.clock = ""
        self.size_kb = 0
        self.subbuf_kb = 0
        self.percent = -1
        self.cpumask = ""
        self.stacks = False
        self.function_stacks = False

    @property
    def empty(self) -> bool:
        """Whether nothing is to be traced in it."""
        return not (self.tracer or self.events)

    @property
    def untouched(self) -> bool:
        """Whether the command line says nothing about it."""
        return vars(self) == vars(BufferSetup(self.name))


class Setup:
    """A whole command line."""

    def __init__(self) -> None:
        self.buffers = [BufferSetup()]
        self.command: list[str] = []
        self.output = "trace.dat"
        self.output_given = False
        self.all_formats = False
        self.filter_command = False
        self.children = False
        self.pids: list[int] = []
        self.no_function_trace = False
        self.interval_us = 0
        self.priority = 0
        self.host = ""
        self.tcp = False
        self.keep = False
        self.continued = False  # what is in the buffers before stays, and is part of the recording
        self.ignore = False
        self.max_kb = 0
        self.quiet = False
        self.date = False
        self.user = ""
        self.no_filter = False
        self.proc_map = False
        self.depth = -1
        self.comm_slots = 0
        self.version = 7
        self.compression = "any"
        self.time_offset = ""
        self.temp = ""
        self.stderr = False
        self.profile = False
        self.profile_only = False
        self.global_irqs = False
        self.hooks: list[str] = []
        self.by_comm = False
        self.tsc2nsec = False
        self.fork = False
        self.top = False
        self.snapshot = False
        self.help = False
        self.daemonize = False
        self.ready: Callable[[], None] | None = None  # to be called when all is set up and traced
        self.duration: float | None = None
        self.summary = False  # one line at the end in place of where each CPU's data is


def parse_setup(words: list[str]) -> Setup:
    """Reads a command line.

    Raises:
        UsageError: it is wrong, or asks for what harken does not do.
    """
    setup = Setup()
    pairs, setup.command = parse(words, LETTERS, NAMES, command=True)
    buffer = setup.buffers[0]
    event: EventSetup | None = None
    negated = False
    for name, value in pairs:
        if name in _REFUSED:
            raise UsageError(f"{_REFUSED[name]}", "record in the guest itself, with 'record -N HOST:PORT' to a 'listen' here")
        if name == "e":
            event = EventSetup(value, negated)
            buffer.events.append(event)
        elif name in ("f", "R"):
            if event is None:
                raise UsageError(f"-{name} must stand behind the event (-e) that it is for")
            if name == "R":
                event.triggers.append(value)
            else:
                event.filter = f"({event.filter})&&({value})" if event.filter else value
        elif name == "v":
            negated = True
        elif name == "B":
            if not value:
                raise UsageError("'' cannot be the name of a buffer")
            existing = next((known for known in setup.buffers if known.name == value), None)
            buffer = existing or BufferSetup(value)
            if existing is None:
                setup.buffers.append(buffer)
            buffer.delete = negated
            event, negated = None, False
        elif name == "top":
            setup.top = True
        else:
            _other(setup, buffer, name, value)
    setup.all_formats = setup.all_formats or setup.continued  # of events that somebody else has traced, too
    # the records of all buffers are in one order, so a clock is that of all, as in trace-cmd 3.1
    clock = next((known.clock for known in setup.buffers if known.clock), "")
    for known in setup.buffers:
        if not known.empty:
            known.clock = known.clock or clock
    return setup


def refuse_file(setup: Setup, command: str, instead: str) -> None:
    """Refuses what is about a recording's file, for a command that makes none.

    Args:
        instead: how a file is made of what it traces.

    Raises:
        UsageError: there is such an option.
    """
    if setup.output_given or setup.host:
        raise UsageError(f"{command} writes no file", instead)
    if setup.daemonize:
        raise UsageError(f"{command} records nothing that could go on in the background (--daemonize)", instead)


def _other(setup: Setup, buffer: BufferSetup, name: str, value: str) -> None:
    """Options that do not depend on what stands before them, but for the buffer."""
    lists = {"n": buffer.notrace, "g": buffer.graph, "l": buffer.functions, "O": buffer.options, "H": setup.hooks}
    flags = {
        "a": "all_formats", "F": "filter_command", "c": "children", "t": "tcp", "k": "keep", "K": "continued", "i": "ignore", "q": "quiet",
        "quiet": "quiet", "date": "date", "no-filter": "no_filter", "proc-map": "proc_map", "stderr": "stderr", "profile": "profile",
        "S": "profile_only", "G": "global_irqs", "by-comm": "by_comm", "tsc2nsec": "tsc2nsec", "fork": "fork", "h": "help", "help": "help",
        "daemonize": "daemonize",
    }  # fmt: skip
    texts = {"user": "user", "temp": "temp", "N": "host"}
    numbers = {"s": "interval_us", "r": "priority", "m": "max_kb", "max-graph-depth": "depth", "cmdlines-size": "comm_slots"}
    sizes = {"b": "size_kb", "subbuf-size": "subbuf_kb", "buffer-percent": "percent"}
    if name in lists:
        lists[name].append(value)
    elif name in flags:
        setattr(setup, flags[name], True)
    elif name in texts:
        setattr(setup, texts[name], value)
    elif name in numbers:
        setattr(setup, numbers[name], _within(name, value))
    elif name in sizes:
        setattr(buffer, sizes[name], _within(name, value))
    elif name == "p":
        if buffer.tracer:
            raise UsageError("only one tracer (-p) is possible per buffer")
        buffer.tracer = value
    elif name == "o":
        setup.output, setup.output_given = value, True
    elif name == "P":
        setup.pids += [_within("P", word) for word in value.replace(",", " ").split()]
    elif name == "ts-offset":
        number(value, "--ts-offset", 0)
        setup.time_offset = value
    elif name == "C":
        buffer.clock = value
    elif name == "M":
        buffer.cpumask = value
    elif name == "module":
        buffer.module = value
    elif name == "T":
        buffer.stacks = True
    elif name == "func-stack":
        buffer.function_stacks = True
    elif name in ("d", "D"):
        setup.no_function_trace = True
    elif name == "file-version":
        if value not in ("6", "7"):
            raise UsageError(f"there is no file version {value!r}", "6 and 7 are known")
        setup.version = int(value)
    elif name == "compression":
        if value not in ("any", "none", "zlib", "zstd"):
            raise UsageError(f"there is no compression {value!r}", "any, none, zlib and zstd are known")
        setup.compression = value
    # --poll, --nosplice, --nofifos, --notimeout, --verbose: how trace-cmd reads; harken's recorder has nothing to choose there


#: options with numbers -> the least and the greatest that make sense
_RANGES = {"P": (1, 1 << 30), "r": (0, 99), "s": (0, 1 << 40), "buffer-percent": (0, 100), "subbuf-size": (0, 1 << 20)}


def _within(name: str, value: str) -> int:
    """The number that an option has.

    Raises:
        UsageError: it is none, or not one that the option can have.
    """
    option = f"--{name}" if name[1:] else f"-{name}"
    found = number(value, option)
    least, greatest = _RANGES.get(name, (0, 1 << 40))
    if not least <= found <= greatest:
        whole = found > greatest or greatest <= 100
        raise UsageError(f"{option}: {found} is not possible", f"{least} to {greatest}" if whole else f"{least} or more")
    return found
