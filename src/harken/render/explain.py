"""``--explain``: which mechanism serves each probe, why, and why the others do not.

Example:
    >>> print(explain_text((("kprobe:vfs_read", "kprobe_multi", "fewest system calls", (("fentry", "needs BTF"),)),)))
    kprobe:vfs_read
      uses kprobe_multi: fewest system calls
      not fentry: needs BTF
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ("explain_text",)


def explain_text(plan: Iterable[tuple[Any, ...]]) -> str:
    """The plan of a compiled program: (probe, mechanism, reason, ((mechanism not taken, why), ...)) each; no line end.

    Probes that share everything but the name are told together.
    """
    groups: dict[tuple[Any, ...], list[str]] = {}
    for probe, mechanism, reason, rejected, *_rest in plan:
        groups.setdefault((mechanism, reason, tuple(rejected)), []).append(probe)
    lines: list[str] = []
    for (mechanism, reason, rejected), probes in groups.items():
        lines.append(probes[0] if len(probes) == 1 else f"{probes[0]} and {len(probes) - 1} more")
        lines.append(f"  uses {mechanism}" + (f": {reason}" if reason else ""))
        lines += [f"  not {name}: {why}" for name, why in rejected]
    return "\n".join(lines)
