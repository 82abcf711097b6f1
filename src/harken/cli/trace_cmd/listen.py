"""``trace-cmd listen``: waits for ``record -N`` of other machines and writes what they send to ``trace.HOST:PORT.dat``."""

from __future__ import annotations

import os
import signal
import socket
import sys

from ...base.errors import HarkenError, KernelError, UsageError
from .arguments import number, parse
from .background import in_background
from .running import Stop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("run",)

USAGE = """\
usage:
  harken trace-cmd listen -p PORT [-d DIRECTORY] [-o NAME] [-l LOGFILE] [-D]

   files are called NAME.HOST:PORT.dat, NAME is "trace" unless -o says otherwise   -D run in the background
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    pairs, rest = parse(argv, "p:Dd:o:l:V:h", ("help", "verbose?"))
    values = dict(pairs)
    if "h" in values or "help" in values:
        print(USAGE, end="")
        return 0
    if "V" in values:
        raise UsageError("vsock (-V) is not supported", "use -p PORT")
    if "p" not in values or rest:
        raise UsageError("listen needs a port (-p)" if not rest else f"listen takes no {rest[0]!r}")
    directory = values.get("d", ".")
    if not os.path.isdir(directory):
        raise KernelError(f"cannot access the directory {directory}", errno=2)
    port = number(values["p"], "-p")
    log = open(values["l"], "a") if "l" in values else sys.stdout  # noqa: SIM115
    try:
        server = socket.create_server(("", port), family=socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET, **_dual())
    except (OSError, OverflowError) as error:
        raise KernelError(
            f"cannot listen on port {port}: {getattr(error, 'strerror', None) or error}", errno=getattr(error, "errno", 0) or 0
        ) from None
    base = f"{directory}/{values.get('o', 'trace')}"

    def say(text: str) -> None:
        print(text, file=log, flush=True)

    if "D" not in values:
        return _listen(server, base, say)

    def work(ready: Callable[[], None]) -> int:
        ready()
        return _listen(server, base, say)

    return in_background(work)


def _listen(server: socket.socket, base: str, say: Callable[[str], None]) -> int:
    """Takes connections until Ctrl-C or SIGTERM, which also end those that are there: what they have sent is written."""
    stop = Stop()
    with server:
        server.settimeout(0.5)
        children: set[int] = set()
        while not stop.wanted:
            try:
                connection, peer = server.accept()
            except TimeoutError:
                _reap(children)
                continue
            child = os.fork()
            if child:
                children.add(child)
                connection.close()
                continue
            server.close()
            _end_with_a_signal(connection)
            os._exit(_serve(connection, peer, base, say))
    for child in children:
        try:
            os.kill(child, signal.SIGTERM)
        except ProcessLookupError:
            continue
    while children:
        _reap(children, wait=True)
    stop.restore()
    return 0


def _end_with_a_signal(connection: socket.socket) -> None:
    """For ``receive`` it is as if the sender ended, whatever it waits for."""

    def end(_number: int, _frame: object) -> None:
        try:
            connection.shutdown(socket.SHUT_RD)
        except OSError:  # it has ended
            pass

    signal.set_wakeup_fd(-1)  # is the listener's
    for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(which, end)


def _dual() -> dict[str, bool]:
    return {"dualstack_ipv6": True} if socket.has_dualstack_ipv6() else {}


def _reap(children: set[int], wait: bool = False) -> None:
    for child in list(children):
        try:
            done, _ = os.waitpid(child, 0 if wait else os.WNOHANG)
        except ChildProcessError:
            done = child
        if done:
            children.discard(child)


def _serve(connection: socket.socket, peer: tuple[str, int], base: str, say: Callable[[str], None]) -> int:
    """One client, in a process of its own."""
    from ...session.recorder_ftrace_network import receive

    if peer[0].startswith("::ffff:"):  # IPv4 through an IPv6 socket
        peer = (peer[0][7:], peer[1])
    host, service = socket.getnameinfo(peer[:2], socket.NI_NUMERICSERV)
    say(f"Connected with {host}:{service}")
    path = f"{base}.{host.replace('/', '_')}:{service}.dat"
    try:
        receive(connection, path, say)
    except (HarkenError, OSError) as error:
        say(f"ERROR: {host}:{service}: {error}")
        return 1
    finally:
        connection.close()
    say(f"{path} is complete")
    return 0
