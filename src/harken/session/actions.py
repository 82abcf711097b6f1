"""Actions: what a session does when a record of an event arrives.

``handler(event, host)`` gives the function (buffer, start) -> item for one event of the program.  It is made when the first record
arrives: a program of fifty events pays for those that happen.
"""

from __future__ import annotations

import os
import time

from ..base.errors import UsageError
from ..render.printf import formatter
from ..render.values import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from ..base.schema import Buffer
    from ..compiler.unit import Event
    from .local_tables import LocalTable
    from .sink import Handler, Sink
    from .stacks import SessionSymbols
    from .tables import TableReader

    class Host(Protocol):
        """What actions may do to a session."""

        sink: Sink
        tables: dict[str, TableReader | LocalTable]
        symbols: SessionSymbols | None
        #: map -> updates that found it full
        refused: dict[str, int]
        #: exit() was seen: what comes later in the stream does not count
        exited: bool

        def exit(self, code: int) -> None: ...
        def setting(self, name: str, default: Any) -> Any: ...


__all__ = ("handler", "EXIT", "WARNINGS")

#: The item of the first exit(): what stands before it in a batch was put out in time.
EXIT = object()

#: What ("error", (kind, position)) events mean.
WARNINGS = {
    "div_zero": "Divide or modulo by 0 detected. This can lead to unexpected results. 1 is being used as the result.",
    "map_full": "Map full; can't update element. Try increasing max_map_keys config or manually deleting elements",
    "out_of_bounds": "Array access out of bounds. This can lead to unexpected results.",
    "bad_read": "Memory could not be read; zero is used instead.",
    "loop_limit": "A loop was stopped at its limit.",
}


def handler(event: Event, host: Host) -> Handler:
    """The function for one event; an action that this version does not know raises ``UsageError``."""
    make = _MAKERS.get(event.action)
    if make is None:
        raise UsageError(f"the program wants the action {event.action!r}, which this version of harken does not know")
    return make(event, host)


def _printf(event: Event, host: Host) -> Handler:
    return host.sink.printf(event)


def _value(event: Event, host: Host) -> Handler:
    return host.sink.value(event)


def _print_map(event: Event, host: Host) -> Handler:
    name, top, divisor = (*event.args, 0, 0)[:3]
    reader = host.tables[name]
    return lambda _buffer, _start: None if host.exited else host.sink.table(reader.table, reader.rows(), top, divisor)


def _clear(event: Event, host: Host) -> Handler:
    reader = host.tables[event.args[0]]
    return lambda _buffer, _start: None if host.exited else reader.clear()


def _zero(event: Event, host: Host) -> Handler:
    reader = host.tables[event.args[0]]
    return lambda _buffer, _start: None if host.exited else reader.zero()


def _aggregate(event: Event, host: Host) -> Handler:
    """An update of a map that lies here: the key's stacks are unwound, then it is counted."""
    from .stacks import unwinding

    name, most = event.args
    table: Any = host.tables[name]
    decode, unwound = event.schema.decoder(), unwinding(event.schema)

    def add(buffer: Buffer, start: int) -> object:
        if not host.exited:
            *key, value = unwound(decode(buffer, start))
            if not table.add(tuple(key), value, most):
                host.refused[name] = host.refused.get(name, 0) + 1
        return None

    return add


def _python(event: Event, host: Host) -> Handler:
    """The program has met a process that it does not know, or a code object."""
    names = host.symbols.python if host.symbols is not None else None
    if names is None:
        return lambda _buffer, _start: None
    decode = event.schema.decoder()
    tell: Callable[..., object] = names.asked if event.action == "python_process" else names.met
    return lambda buffer, start: tell(*decode(buffer, start)) and None


def _exit(event: Event, host: Host) -> Handler:
    code = event.args[0] if event.args else 0
    decode = event.schema.decoder()

    def leave(buffer: Buffer, start: int) -> object:
        if host.exited:
            return None
        host.exit(decode(buffer, start)[0] if code == -1 and event.schema.fields else max(code, 0))
        return EXIT

    return leave


def _time(event: Event, host: Host) -> Handler:
    layout = event.args[0] if event.args else "%H:%M:%S\n"
    return lambda _buffer, _start: host.sink.text("time", timestamp(layout, time.clock_gettime_ns(time.CLOCK_BOOTTIME)))


def _join(event: Event, host: Host) -> Handler:
    separator = event.args[0] if event.args else " "
    decode = event.schema.decoder()

    def join(buffer: Buffer, start: int) -> object:
        words = [word for value in decode(buffer, start) for word in (value if isinstance(value, tuple) else (value,)) if word != ""]
        return host.sink.text("join", separator.join([str(word) for word in words]) + "\n")

    return join


def _cat(event: Event, host: Host) -> Handler:
    path_of = _argument(event)
    limit = host.setting("max_cat_bytes", 10240)

    def cat(buffer: Buffer, start: int) -> object:
        if host.exited:
            return None
        path = path_of(buffer, start)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
            return host.sink.warning("cat", f"failed to open file '{path}': {reason}", event.position)
        try:
            data = os.read(fd, limit)
        except OSError as error:
            return host.sink.warning("cat", f"failed to read file '{path}': {os.strerror(error.errno or 0)}", event.position)
        finally:
            os.close(fd)
        return host.sink.text("cat", data.decode("utf-8", "surrogateescape"))

    return cat


def _system(event: Event, host: Host) -> Handler:
    command_of = _argument(event)

    def system(buffer: Buffer, start: int) -> object:
        if host.exited:
            return None
        import subprocess

        command = command_of(buffer, start).encode("utf-8", "surrogateescape")
        done = subprocess.run(["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
        return host.sink.text("syscall", done.stdout.decode("utf-8", "surrogateescape"))

    return system


def _error(event: Event, host: Host) -> Handler:
    kind, position = (*event.args, event.position)[:2]
    message = WARNINGS.get(kind, kind)
    return lambda _buffer, _start: host.sink.warning(kind, message, position)


def _warnf(event: Event, host: Host) -> Handler:
    show = _argument(event)
    return lambda buffer, start: host.sink.warning(event.action, show(buffer, start).rstrip("\n"), event.position)


def _argument(event: Event) -> Callable[[Buffer, int], str]:
    return formatter(event.args[0], event.schema)


_MAKERS: dict[str, Callable[[Event, Host], Handler]] = {
    "printf": _printf,
    "print_value": _value,
    "print_map": _print_map,
    "clear": _clear,
    "zero": _zero,
    "aggregate": _aggregate,
    "python_process": _python,
    "python_code": _python,
    "exit": _exit,
    "time": _time,
    "join": _join,
    "cat": _cat,
    "system": _system,
    "error": _error,
    "warnf": _warnf,
    "errorf": _warnf,
}
