"""The network protocol over the loopback interface: what is sent arrives, what is no recording is refused."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
import time
from contextlib import suppress

import pytest

from harken.base.errors import FormatError, KernelError
from harken.cli.trace_cmd import listen
from harken.cli.trace_cmd.network import _gone
from harken.formats.trace_dat import TraceFile, open_trace
from harken.kernel.kernel import live
from harken.session import recorder_ftrace_network as network
from harken.testing.trace_dat_builder import parts, recording


def listener(tmp_path):
    """(port, thread, path, errors) of a listener for one connection."""
    server = socket.create_server(("127.0.0.1", 0))
    path, errors = str(tmp_path / "received.dat"), []

    def serve():
        connection, _ = server.accept()
        with connection, server:
            try:
                network.receive(connection, path, lambda text: None)
            except (FormatError, OSError) as error:
                errors.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    return server.getsockname()[1], thread, path, errors


@pytest.mark.parametrize("tcp", [True, False])
def test_what_is_sent_arrives(tmp_path, tcp):
    data = recording({"": {0: [(n, n, 1) for n in range(2000)], 1: [(5, 5, 5)]}})
    source = TraceFile(data)
    port, thread, path, errors = listener(tmp_path)
    sender = network.Sender("127.0.0.1", str(port), 2, 4096, tcp)
    sender.head(network.head_of(parts((1, 5), 2)))
    for cpu in range(2):
        for page in source.pages(cpu):
            sender.page(cpu, bytes(page))
    sender.finish()
    thread.join(30)
    sender.close()
    assert errors == []
    with open_trace(path) as trace:
        assert trace.version == 6 and trace.problems == [] and trace.comm(5) == "task-5"
        for cpu in range(2):
            assert b"".join(map(bytes, trace.pages(cpu))) == b"".join(map(bytes, source.pages(cpu)))
    assert sorted(os.listdir(tmp_path)) == ["received.dat"]


@pytest.fixture
def listening(tmp_path):
    """(port, PID) of a listener in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    child = os.fork()
    if not child:
        status = 1
        try:
            status = listen.run(["-p", str(port), "-d", str(tmp_path), "-l", str(tmp_path / "log")])
        finally:
            os._exit(status)
    yield port, child
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_listener_that_is_ended_writes_what_has_come(tmp_path, listening):
    """It does not wait for its senders, who find out."""
    port, child = listening
    page = bytes(next(iter(TraceFile(recording({"": {0: [(5, 5, 5)]}})).pages(0))))
    deadline = time.monotonic() + 60
    while True:
        try:
            sender = network.Sender("127.0.0.1", str(port), 1, 4096, True)
            break
        except KernelError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    sender.head(network.head_of(parts((1, 5), 1)))
    for _ in range(8):  # more than is kept back until there is a block of it
        sender.page(0, page)
    while not any(path.stat().st_size for path in tmp_path.glob("*.cpu0")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not _gone(live(), sender.control)
    os.kill(child, signal.SIGTERM)
    ended, status = 0, -1
    while not ended:
        assert time.monotonic() < deadline
        time.sleep(0.02)
        ended, status = os.waitpid(child, os.WNOHANG)
    assert status == 0 and _gone(live(), sender.control)
    sender.close()
    (path,) = tmp_path.glob("*.dat")
    with open_trace(str(path)) as trace:
        assert [bytes(found) for found in trace.pages(0)] == [page] * 8


@pytest.mark.parametrize(
    "said",
    [
        b"2\0",  # the protocol before version 3
        b"x" * 100,
        b"-1V3\0nonsense",
        b"-1V3\x00766679\0\0" + struct.pack(">III", 12, 3, 0),
        b"-1V3\x00766679\0\0" + struct.pack(">III", 24, 1, 12) + struct.pack(">III", 100000, 4096, 0),
        b"-1V3\x00766679\0\0" + struct.pack(">III", 24, 1, 12) + struct.pack(">III", 2, 0, 0),
        b"-1V3\x00766679\0\0" + struct.pack(">III", 1 << 31, 1, 12),
        b"-1V3\x00766679\0\0" + struct.pack(">III", 24, 1, 12) + struct.pack(">III", 1, 4096, 0) + struct.pack(">III", 12, 4, 0),
    ],
)
def test_who_does_not_speak_the_protocol_is_refused(tmp_path, said):
    port, thread, path, errors = listener(tmp_path)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(said)
        with suppress(OSError):  # the listener may have hung up already
            connection.shutdown(socket.SHUT_WR)
        thread.join(30)
    assert len(errors) == 1 and not os.path.exists(path)
    assert os.listdir(tmp_path) == []


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(KernelError, match="cannot connect") as caught:
        network.Sender("127.0.0.1", str(port), 1, 4096, False)
    assert f"listen -p {port}" in caught.value.hint


def test_a_name_that_nobody_has(monkeypatch):
    def refused(*_address, **_how):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", refused)
    with pytest.raises(KernelError, match="cannot connect to nobody:1: Name or service not known") as caught:
        network.Sender("nobody", "1", 1, 4096, False)
    assert "listen" not in caught.value.hint and caught.value.errno == 0


def test_a_sender_that_says_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(network, "_TIMEOUT", 0.3)
    asked = []
    monkeypatch.setattr(network, "keep_asking", lambda connection, ask=network.keep_asking: (ask(connection), asked.append(connection)))
    port, thread, path, errors = listener(tmp_path)
    sender = network.Sender("127.0.0.1", str(port), 1, 4096, True)
    sender.head(network.head_of(parts((1, 5), 1)))
    while not asked:
        time.sleep(0.01)
    assert asked[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    sender.control.sendall(bytes(5))  # of the twelve that a message begins with
    thread.join(30)
    assert not thread.is_alive() and errors == [] and os.path.exists(path)
    sender.close()


def test_a_stranger_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(FormatError, match="no trace-cmd"):
            network.Sender("127.0.0.1", str(server.getsockname()[1]), 1, 4096, False)
        thread.join(10)
