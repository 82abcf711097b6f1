"""Lists of probes as text: one per line, details indented by four blanks below it (bpftrace's ``-l`` and ``-lv``).

Types are shown as C instead of their name, ``vmlinux: struct x {...};``, since that is what one asks for with ``-v``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ("text",)

_CHUNK = 4096


def text(groups: Iterable[tuple[str, list[str]]], describe: Callable[[str], list[str]] | None = None) -> Iterator[str]:
    """The lines of groups (``probes.listing.search``) in large pieces, to be written as they come.

    Args:
        describe: gives the lines about one text (``probes.description.describe``) for the verbose form.

    Example:
        >>> print(*text([("iter", ["iter:task"])], lambda name: ["struct task_struct * task"]), sep="", end="")
        iter:task
            struct task_struct * task
    """
    for kind, names in groups:
        if not names:
            continue
        if describe is None:
            yield "\n".join(names) + "\n"
            continue
        layout = kind in ("struct", "union", "enum")
        lines: list[str] = []
        for name in names:
            details = describe(name)
            if layout and details:
                lines.append("vmlinux: " + details[0])
                lines += [*details[1:], ""]
            else:
                lines.append(name)
                lines += ["    " + detail for detail in details]
            if len(lines) >= _CHUNK:
                yield "\n".join(lines) + "\n"
                lines.clear()
        if lines:
            yield "\n".join(lines) + "\n"
