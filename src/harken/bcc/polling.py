"""Waiting for events: the polls of perf buffers and ring buffers."""

from __future__ import annotations

from .names import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Polling",)


class Polling:
    """The part of ``BPF`` that waits."""

    if TYPE_CHECKING:
        perf_buffers: dict[Any, Any]
        _rings: dict[int, Any]

    @staticmethod
    def _poll(readers: list[Any], timeout: int) -> None:
        if sum([reader.read() for reader in readers]):
            return  # more may have come meanwhile: the next call looks again before it sleeps
        ready = kernel().poll([fd for reader in readers for fd in reader.fds], timeout)
        if ready:
            for reader in readers:
                reader.read()

    def perf_buffer_poll(self, timeout: int = -1) -> None:
        """Waits for events of all perf buffers and calls their callbacks.

        Args:
            timeout: the longest wait, in milliseconds; -1: no limit.
        """
        self._poll(list(self.perf_buffers.values()), timeout)

    def kprobe_poll(self, timeout: int = -1) -> None:
        """An old name of ``perf_buffer_poll``."""
        self.perf_buffer_poll(timeout)

    def perf_buffer_consume(self) -> None:
        """Calls the callbacks for the events that are there, without waiting; losses are complete afterwards."""
        for reader in list(self.perf_buffers.values()):
            reader.read(True)

    def ring_buffer_poll(self, timeout: int = -1) -> None:
        """Waits for events of all ring buffers and calls their callbacks; ``timeout`` as of ``perf_buffer_poll``."""
        if not self._rings:
            raise Exception("No ring buffers to poll")
        self._poll(list(self._rings.values()), timeout)

    def ring_buffer_consume(self) -> None:
        """Calls the callbacks for the events that are there, without waiting."""
        if not self._rings:
            raise Exception("No ring buffers to poll")
        for reader in list(self._rings.values()):
            reader.read()
