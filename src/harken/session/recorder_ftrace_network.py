"""trace-cmd's network protocol, version 3: a recording goes to ``trace-cmd listen`` on another machine.

The connection begins with texts: the listener says "tracecmd", the sender "-1V3", the listener "V3", the sender "766679", the
listener "OK".  Messages follow, in network byte order: u32 size of all, u32 command, u32 size of the command's own part, that part,
data; 8192 bytes at most::

    TINIT  u32 CPUs, u32 page size, u32 number of options; the options as strings ("tcp")
    RINIT  u32 CPUs; a port for each as a string
    SEND_DATA, FIN_DATA   everything but the records: a version 6 file up to where its records would begin
    CLOSE  the end

Pages go to the ports: over UDP a datagram for each page, over TCP as a stream.  The listener gives up when nothing comes for five seconds
before FIN_DATA, so all that can be known is sent at the beginning.
"""

from __future__ import annotations

import os
import struct

from ..base.errors import FormatError, KernelError, UsageError
from ..formats.trace_dat import TraceFile
from ..formats.trace_dat_parts import BufferSource, CpuSource, Parts
from ..formats.trace_dat_writer import write_trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

__all__ = ("Sender", "receive", "head_of", "send_message", "read_message")

CLOSE, TINIT, RINIT, SEND_DATA, FIN_DATA, NOT_SUPP = range(6)
_MAGIC = b"766679\0\0"  # with two NULs
_MAX_MESSAGE = 8192
_MAX_HEAD = 512 << 20
_MAX_CPUS = 8192
_TIMEOUT = 5.0


def head_of(parts: Parts) -> bytes:
    """A version 6 file up to where its records would begin."""
    fd = os.memfd_create("harken-head")
    try:
        write_trace(fd, parts, [], 6)
        data = os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
    return data[: data.rindex(b"flyrecord\0")]


def send_message(connection: socket.socket, command: int, body: bytes = b"", data: bytes = b"") -> None:
    """Sends one message."""
    connection.sendall(struct.pack(">III", 12 + len(body) + len(data), command, len(body)) + body + data)


def _exactly(connection: socket.socket, size: int) -> bytes:
    pieces = []
    while size:
        piece = connection.recv(size)
        if not piece:
            raise FormatError("network", "the peer ended the connection")
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def read_message(connection: socket.socket) -> tuple[int, bytes, bytes]:
    """(command, its own part, data) of the next message.

    Raises:
        FormatError: it is none.
        OSError: nothing came in time.
    """
    size, command, own = struct.unpack(">III", _exactly(connection, 12))
    if not 12 <= size <= _MAX_MESSAGE or own > size - 12:
        raise FormatError("network", f"a message of {size} bytes with {own} bytes of its own")
    rest = _exactly(connection, size - 12)
    return command, rest[:own], rest[own:]


def _string(connection: socket.socket, limit: int = 64) -> bytes:
    text = b""
    while len(text) < limit:
        byte = _exactly(connection, 1)
        if byte == b"\0":
            return text
        text += byte
    raise FormatError("network", f"a text without an end: {text[:20]!r}")


class Sender:
    """The sender's side: connects, says what comes, and has a socket for each CPU's pages.

    Args:
        host, port: of the listener.
        cpus: number of CPUs; ``page_size`` of their pages.
        tcp: pages over TCP instead of UDP.

    Raises:
        KernelError: nobody listens there.
        FormatError: who listens there does not speak this protocol.
    """

    def __init__(self, host: str, port: str, cpus: int, page_size: int, tcp: bool) -> None:
        import socket

        self.tcp = tcp
        self.sockets: list[socket.socket] = []
        try:
            self.control = socket.create_connection((host, port), timeout=_TIMEOUT)
        except OSError as error:
            known = not isinstance(error, socket.gaierror)  # whose numbers are no errnos
            raise KernelError(
                f"cannot connect to {host}:{port}: {error.strerror or error}",
                errno=error.errno or 0 if known else 0,
                hint=f"start 'harken trace-cmd listen -p {port}' there" if known else "an address serves in place of a name",
            ) from None
        try:
            self._greet()
            options = b"tcp\0" if tcp else b""
            send_message(self.control, TINIT, struct.pack(">III", cpus, page_size, 1 if tcp else 0), options)
            command, own, data = read_message(self.control)
            ports = data.split(b"\0")[:-1]
            if command != RINIT or len(own) != 4 or len(ports) != cpus or not all(word.isdigit() for word in ports):
                raise FormatError("network", f"{host}:{port} does not take {cpus} CPUs")
            for word in ports:
                self.sockets.append(self._connect(host, int(word)))
        except BaseException:
            self.close()
            raise

    def _greet(self) -> None:
        if _exactly(self.control, 8) != b"tracecmd":
            raise FormatError("network", "who listens there is no trace-cmd")
        self.control.sendall(b"-1V3\0")
        if _string(self.control) != b"V3":
            raise FormatError("network", "the listener does not know version 3 of the protocol", hint="trace-cmd 2.9 and later do")
        self.control.sendall(_MAGIC)
        if _exactly(self.control, 2) != b"OK":
            raise FormatError("network", "the listener refuses")

    def _connect(self, host: str, port: int) -> socket.socket:
        import socket

        kind = socket.SOCK_STREAM if self.tcp else socket.SOCK_DGRAM
        family, _, _, _, address = socket.getaddrinfo(host, port, type=kind)[0]
        made = socket.socket(family, kind)
        made.connect(address)
        return made

    def head(self, data: bytes) -> None:
        """Sends everything but the records."""
        step = _MAX_MESSAGE - 12
        for at in range(0, len(data), step):
            send_message(self.control, SEND_DATA, b"", data[at : at + step])
        send_message(self.control, FIN_DATA)

    def page(self, cpu: int, data: bytes) -> None:
        """Sends a page.

        Raises:
            OSError: the listener is gone.
        """
        try:
            self.sockets[cpu].sendall(data)
        except ConnectionRefusedError:
            if self.tcp:
                raise
            # a datagram to a port that is not open yet or any more is lost, as datagrams may be

    def finish(self) -> None:
        """Says that nothing more comes."""
        for made in self.sockets:
            made.close()
        self.sockets = []
        send_message(self.control, CLOSE)

    def close(self) -> None:
        for made in (*self.sockets, self.control):
            made.close()


def receive(connection: socket.socket, path: str, say: Callable[[str], None]) -> None:
    """The listener's side of one connection: writes the recording to ``path``.

    Args:
        say: takes messages for the user.

    Raises:
        FormatError: the peer does not speak the protocol, or sends no recording.
        OSError: it is silent, or the file cannot be written.
    """
    connection.settimeout(_TIMEOUT)
    connection.sendall(b"tracecmd")
    for _ in range(3):
        word = _string(connection)
        connection.sendall(b"V3\0")
        if word == b"-1V3":
            break
        if not word.startswith(b"-1V"):
            raise FormatError("network", f"a sender of the old protocol ({word[:20]!r})", hint="trace-cmd 2.9 and later speak the new one")
    if _exactly(connection, len(_MAGIC)) != _MAGIC:
        raise FormatError("network", "the sender does not know the protocol")
    connection.sendall(b"OK")
    command, own, options = read_message(connection)
    if command != TINIT or len(own) < 12:
        raise FormatError("network", f"message {command} where the beginning should be")
    cpus, page_size, _ = struct.unpack_from(">III", own)
    if not 0 < cpus <= _MAX_CPUS or not 512 <= page_size <= 1 << 20:
        raise FormatError("network", f"{cpus} CPUs with pages of {page_size} bytes")
    tcp = b"tcp" in options.lower().split(b"\0")
    say(f"cpus={cpus}\npagesize={page_size}")
    with _Ports(connection, cpus, page_size, tcp, path) as ports:
        send_message(connection, RINIT, struct.pack(">I", cpus), b"".join(b"%d\0" % number for number in ports.numbers))
        head = bytearray()
        while True:
            command, _, data = read_message(connection)
            if command == FIN_DATA:
                break
            if command != SEND_DATA or len(head) + len(data) > _MAX_HEAD:
                raise FormatError("network", f"message {command} among the data")
            head += data
            ports.take(0)
        ports.take_until(connection)
        _put_together(bytes(head), ports, path)


def keep_asking(connection: socket.socket) -> None:
    """Lets the kernel ask the peer's machine after a minute of silence whether it is there: the connection ends if it is not."""
    import socket

    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, number in ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6)):  # seconds, and how often
        connection.setsockopt(socket.IPPROTO_TCP, option, number)


class _Ports:
    """A socket for each CPU, and a file for what comes there."""

    def __init__(self, control: socket.socket, cpus: int, page_size: int, tcp: bool, path: str) -> None:
        import socket

        self.tcp, self.page_size = tcp, page_size
        self.listening: dict[int, socket.socket] = {}
        self.numbers: list[int] = []
        self.files = []
        self._cpu_of: dict[int, int] = {}
        self._open: dict[int, socket.socket] = {}
        host, family = control.getsockname()[0], control.family
        for cpu in range(cpus):
            made = socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
            made.bind((host, 0))
            if tcp:
                made.listen(1)
            else:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            made.setblocking(False)
            self.numbers.append(made.getsockname()[1])
            self._open[made.fileno()] = made
            self._cpu_of[made.fileno()] = cpu
            if tcp:
                self.listening[made.fileno()] = made
            self.files.append(open(f"{path}.cpu{cpu}", "w+b"))  # noqa: SIM115
        self.path = path

    def __enter__(self) -> _Ports:
        return self

    def __exit__(self, *_details: object) -> None:
        for made in self._open.values():
            made.close()
        for cpu, file in enumerate(self.files):
            file.close()
            os.unlink(f"{self.path}.cpu{cpu}")

    def take(self, timeout: float, more: socket.socket | None = None) -> bool:
        """Takes what has come; returns whether there is something at ``more``."""
        import select

        ready, _, _ = select.select([*self._open.values(), *([more] if more is not None else [])], [], [], timeout)
        for made in ready:
            if made is more:
                continue
            number = made.fileno()
            if number in self.listening:
                connection, _ = made.accept()
                connection.setblocking(False)
                cpu = self._cpu_of.pop(number)
                del self._open[number], self.listening[number]
                made.close()
                self._open[connection.fileno()] = connection
                self._cpu_of[connection.fileno()] = cpu
                continue
            try:
                data = made.recv(1 << 20)
            except BlockingIOError:
                continue
            except ConnectionError:
                data = b""
            if data:
                self.files[self._cpu_of[number]].write(data)
            elif self.tcp:
                del self._open[number]
                made.close()
        return more in ready

    def take_until(self, control: socket.socket) -> None:
        """Takes pages until the sender closes or its machine no longer answers, and what is still on its way then."""
        keep_asking(control)
        while True:
            if self.take(1.0, control):
                try:
                    command, _, _ = read_message(control)
                except (FormatError, OSError):
                    break
                if command == CLOSE:
                    break
        import time

        end = time.monotonic() + 1.0
        while time.monotonic() < end and (not self.tcp or self._open):
            self.take(0.1)


def _put_together(head: bytes, ports: _Ports, path: str) -> None:
    """The file of a head and the pages of each CPU."""
    trace = TraceFile(head, path)
    parts = Parts.of(trace).replace(cpus=len(ports.files))
    sources = []
    for cpu, file in enumerate(ports.files):
        file.flush()
        size = os.fstat(file.fileno()).st_size // ports.page_size * ports.page_size
        sources.append(CpuSource(cpu, size, _pages(file.fileno(), size)))
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        write_trace(fd, parts, [BufferSource("", trace.clock or "local", ports.page_size, tuple(sources))], 6)
    finally:
        os.close(fd)


def _pages(fd: int, size: int) -> Callable[[], Iterator[bytes]]:
    def read() -> Iterator[bytes]:
        for at in range(0, size, 1 << 20):
            yield os.pread(fd, min(1 << 20, size - at), at)

    return read


def address(text: str) -> tuple[str, str]:
    """Host and port of ``HOST:PORT`` (``[::1]:1234`` for IPv6; a port alone is on this machine).

    Raises:
        UsageError: it is neither.

    Example:
        >>> address("box:5000"), address("[::1]:5000"), address("5000")
        (('box', '5000'), ('::1', '5000'), ('localhost', '5000'))
    """
    host, _, port = text.rpartition(":")
    if not port.isdigit() or len(port) > 5 or not 0 < int(port) < 65536:
        raise UsageError(f"{text!r} is not HOST:PORT")
    return host.strip("[]") or "localhost", port
