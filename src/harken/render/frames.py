"""Frames of stacks as text: one per line, as JSON, and as addr2line(1) writes them.

Example:
    >>> from harken.symbols.model import Frame
    >>> frame = Frame(0x401136, "main", 4, "/usr/bin/x", "/src/x.c", 12)
    >>> text(frame)
    '0x401136 main+0x4 (/usr/bin/x) at /src/x.c:12'
    >>> text(Frame(0x10)), text(frame.replace(inlined=True, offset=0))
    ('0x10 [unknown]', '0x401136 main (/usr/bin/x) at /src/x.c:12 (inlined)')
    >>> addr2line(frame, functions=True, basenames=True)
    ['main', 'x.c:12']
"""

from __future__ import annotations

from .values import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class FrameLike(Protocol):
        """What is needed of ``symbols.model.Frame``."""

        @property
        def address(self) -> int: ...
        @property
        def name(self) -> str: ...
        @property
        def offset(self) -> int: ...
        @property
        def module(self) -> str: ...
        @property
        def file(self) -> str: ...
        @property
        def line(self) -> int: ...
        @property
        def inlined(self) -> bool: ...
        @property
        def kind(self) -> str: ...
        @property
        def build_id(self) -> str: ...


__all__ = ("text", "json", "addr2line")


def text(frame: FrameLike) -> str:
    """Address, name and offset, module, source line; what is unknown is left out."""
    name = frame.name or "[unknown]"
    line = f"{frame.address:#x} {name}"
    if frame.name and frame.offset:
        line += f"+{frame.offset:#x}"
    if frame.module:
        line += f" ({frame.module})"
    if frame.file:
        line += f" at {frame.file}:{frame.line or '?'}"
    return line + " (inlined)" if frame.inlined else line


def json(frame: FrameLike) -> str:
    """One object with the fields that are known; addresses as text in hex, since JSON's numbers may lose digits."""
    parts = [f'"address": "{frame.address:#x}"']
    if frame.name:
        parts += [f'"symbol": {quote(frame.name)}', f'"offset": {frame.offset}']
    if frame.module:
        parts.append(f'"module": {quote(frame.module)}')
    if frame.file:
        parts += [f'"file": {quote(frame.file)}', f'"line": {frame.line}']
    if frame.inlined:
        parts.append('"inlined": true')
    parts.append(f'"kind": {quote(frame.kind)}')
    if frame.build_id:
        parts.append(f'"build_id": {quote(frame.build_id)}')
    return "{" + ", ".join(parts) + "}"


def addr2line(frame: FrameLike, functions: bool = False, basenames: bool = False) -> list[str]:
    """The lines that addr2line prints for a frame: the function if asked for, then FILE:LINE with "?" for what is unknown."""
    file = frame.file.rpartition("/")[2] if basenames else frame.file
    place = f"{file}:{frame.line or '?'}" if file else "??:0"
    return [frame.name or "??", place] if functions else [place]
