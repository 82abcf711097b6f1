"""ftrace from Python: ``harken.ftrace``.

``instance()`` traces into a private ring buffer, ``read()`` opens a recording (``trace.dat``); both give records, columns and call graphs
by the same names.

    >>> import harken.ftrace
    >>> harken.ftrace.read("/dev/null")
    Traceback (most recent call last):
    ...
    harken.base.errors.FormatError: /dev/null: the file is empty
"""

from __future__ import annotations

from .session.ftrace_api import TraceInstance, instance
from .session.ftrace_reading import TraceRecord
from .session.ftrace_recording import Recording, read

__all__ = ("Recording", "TraceInstance", "TraceRecord", "instance", "read")
