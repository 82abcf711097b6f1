"""A process that we have started, whichever way."""

from __future__ import annotations

import os

__all__ = ("Child",)


class Child:
    """A process that we have started.

    Attributes:
        status: its wait status, None while it runs; somebody else may have reaped it, then 0.
    """

    pid: int
    status: int | None = None

    def poll(self) -> bool:
        """Whether the child has ended (its wait status is then in ``status``)."""
        if self.status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = self.pid, 0
            if pid:
                self.status = status
        return self.status is not None
