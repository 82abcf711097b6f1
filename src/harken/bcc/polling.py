"""Waiting for events: the polls of perf buffers and ring buffers.

A process that sleeps in poll(2) is woken by the next record, and whoever writes it pays for that: while records come thick and fast,
that costs the traced program more than its records do.  So while the last records are fresh, a poll first waits for a fraction of a
millisecond without being in anybody's way, and takes what has come meanwhile in bulk; only when nothing has, it lets itself be woken.
Busy perf buffers are hushed (``kernel.perf_buffer``) for that time, and a wait for them ends early when half of one is full.
"""

from __future__ import annotations

from time import monotonic, sleep

from .names import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Polling",)

#: seconds for which records are fresh; the longest sleep that records may wait for
_FRESH, _NAP = 0.002, 0.0002
#: milliseconds that records of a hushed ring may wait for; that a poll sleeps before it looks whether something came unnoticed: records
#: of a program that was running when the ring was roused, or losses
_HUSHED, _SETTLE = 1, 100
#: seconds that a sleep takes at least, whatever is asked for; bytes per second that the fastest programs write, so that no ring is full
#: after a sleep
_SLACK, _FASTEST = 0.00006, 1 << 30


class Polling:
    """The part of ``BPF`` that waits."""

    if TYPE_CHECKING:
        perf_buffers: dict[Any, Any]
        _rings: dict[int, Any]

    _fresh_until = 0.0

    def _take(self, readers: list[Any]) -> bool:
        """Hands over what waits; whether anything did."""
        if sum([reader.read() for reader in readers]):
            self._fresh_until = monotonic() + _FRESH
            return True
        return False

    def _poll(self, readers: list[Any], timeout: int) -> None:
        # when something was there, more may have come meanwhile: the next call looks again before it sleeps
        if self._take(readers) or not timeout:
            return
        fds = [fd for reader in readers for fd in reader.fds]
        if monotonic() < self._fresh_until:
            nap = min([_NAP, *[reader.buffer.size / _FASTEST for reader in readers]])
            hushed = any([reader.hushed for reader in readers])
            if hushed:
                kernel().poll(fds, _HUSHED)
            elif nap > _SLACK:
                sleep(nap)
            if (hushed or nap > _SLACK) and self._take(readers):
                return
        unsettled = [reader for reader in readers if reader.unsettled]
        if unsettled:
            for reader in unsettled:
                reader.rouse()
            first = _SETTLE if timeout < 0 else min(timeout, _SETTLE)
            if self._take(readers) or kernel().poll(fds, first) and self._take(readers):
                return
            if sum([reader.read(True) for reader in unsettled]):
                self._fresh_until = monotonic() + _FRESH
                return
            if timeout > 0:
                timeout -= first
                if not timeout:
                    return
        if kernel().poll(fds, timeout):
            self._take(readers)

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
