"""Names the file that cannot be written: a full disk tells no name when something is written to it, only when it is opened."""

from __future__ import annotations

import errno

__all__ = ("naming",)

#: What has to do with whoever reads the output, and with what this process may have.
_OTHERS = frozenset((errno.EPIPE, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM))


class naming:  # noqa: N801, it reads as what it does: with naming(path):
    """Within it, errors of the operating system without a file are about this one."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError) and error.filename is None and error.errno not in _OTHERS:
            error.filename = self.path
