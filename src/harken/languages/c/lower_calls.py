"""Calls that need the kernel: BPF helpers, BCC's own functions and the methods of maps."""

from __future__ import annotations

from .lower_builtins import BuiltinCode

__all__ = ("CallCode",)


class CallCode(BuiltinCode):
    """Code of calls that need the kernel."""
