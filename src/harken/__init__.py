"""harken: dynamic tracing for Linux.

``import harken`` costs nothing; names are loaded on first use.

    >>> import harken
    >>> harken.__version__
    '0.1.0'
"""

from __future__ import annotations

__version__ = "0.1.0"
