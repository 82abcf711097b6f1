"""``config = { key = value }``: what there is to set, and what it takes.

Keys may be written in capitals and with BPFTRACE_ before them, as bpftrace's environment variables are.
"""

from __future__ import annotations

from ...base.diagnostics import nearest
from ...compiler.builtins.stacks import LEAST_BYTES, MODES, MOST_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import ast as A
    from .model import Problems

__all__ = ("settings",)

_POSITIVE = range(1, 1 << 63)
_WORD: tuple[str, ...] = ()
#: config key -> (what it takes: a range, one of some words, any word, or ``bool``; the field of Options that it replaces, or "" when it
#: only goes to Unit.config)
_SETTINGS: dict[str, tuple[range | tuple[str, ...] | type, str]] = {
    "max_strlen": (range(2, 16385), "max_strlen"),
    "max_map_keys": (range(1, 1 << 32), "max_map_keys"),
    "max_probes": (_POSITIVE, "max_probes"),
    "max_bpf_progs": (_POSITIVE, "max_bpf_progs"),
    "missing_probes": (("error", "warn", "ignore"), "missing_probes"),
    "perf_rb_pages": (_POSITIVE, ""),
    "print_maps_on_exit": (bool, ""),
    "cpp_demangle": (bool, ""),
    "lazy_symbolication": (bool, ""),
    "cache_user_symbols": (_WORD, ""),
    "license": (_WORD, ""),
    "log_size": (_POSITIVE, ""),
    "max_cat_bytes": (_POSITIVE, ""),
    "on_stack_limit": (_POSITIVE, ""),
    "stack_mode": (MODES, "stack_mode"),
    "user_stack_bytes": (range(LEAST_BYTES, MOST_BYTES + 1), "user_stack_bytes"),
    "str_trunc_trailer": (_WORD, ""),
    "show_debug_info": (bool, ""),
    "use_blazesym": (bool, ""),
}
_RENAMED = {"strlen": "max_strlen", "no_cpp_demangle": "cpp_demangle", "cat_bytes_max": "max_cat_bytes", "map_keys_max": "max_map_keys"}


def settings(given: tuple[A.Setting, ...], problems: Problems) -> tuple[dict[str, Any], dict[str, Any]]:
    """Checks what a program's ``config`` block sets.

    Returns:
        all that is set, by key without "bpftrace_" (it becomes ``Unit.config``), and what of it replaces fields of ``Options``.
    """
    config: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    for one in given:
        key = one.key.lower().removeprefix("bpftrace_")
        if key in _RENAMED:
            problems.error(f"{one.key}: this option was renamed", one.span, f"use {_RENAMED[key]}")
            continue
        if key not in _SETTINGS:
            near = nearest(key, _SETTINGS)
            problems.error(f"{one.key}: not a known configuration option", one.span, f"did you mean {near[0]}?" if near else "")
            continue
        takes, field = _SETTINGS[key]
        if not _fits(one.value, takes):
            problems.error(f"{one.key}: expecting {_name(takes)}, got {one.value}", one.span)
            continue
        config[key] = bool(one.value) if takes is bool else one.value
        if field:
            changes[field] = config[key]
    return config, changes


def _fits(value: int | str | bool, takes: range | tuple[str, ...] | type) -> bool:
    if isinstance(takes, range):
        return type(value) is int and value in takes
    if isinstance(takes, tuple):
        return isinstance(value, str) and (not takes or value in takes)
    return value in (0, 1)


def _name(takes: range | tuple[str, ...] | type) -> str:
    if isinstance(takes, range):
        return "a positive number" if takes is _POSITIVE else f"a number from {takes[0]} to {takes[-1]}"
    if isinstance(takes, tuple):
        return f"{', '.join(takes[:-1])} or {takes[-1]}" if takes else "a word"
    return "true or false"
