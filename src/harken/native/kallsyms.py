"""The compact form of /proc/kallsyms (``kallsyms.c``); ``symbols.kernel_symbols_index`` has the same in Python."""

from __future__ import annotations

from . import library
from .foreign import Pointer, Structure, Word, addressof
from .memory import address, room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Columns", "columns")

#: (addresses, offsets of names, numbers of modules, names, modules, how many have an address).
Columns = tuple[memoryview, memoryview, memoryview, memoryview, bytes, int]


class _Table(Structure):
    _fields_ = [
        (name, Word)
        for name in (
            "text size changing room values rows kinds order spare count addressed starts offsets owners block modules block_size "
            "modules_size"
        ).split()
    ]


def columns(text: bytes, changing: bool) -> Columns | None:
    """The columns of ``KallsymsIndex``; valid as long as they are held.

    Args:
        changing: of the symbols that come and go, else of the others.

    Returns:
        None without the accelerator, and if a line is none as the kernel writes them.

    Example:
        >>> found = columns(b"ffffffff81000010 T b\\nffffffff81000000 t a\\n", False) if library() else None
        >>> found is None or (found[0].cast("Q")[0] == 0xFFFFFFFF81000000, bytes(found[3]), found[5]) == (True, b"a\\0b\\0", 2)
        True
    """
    native = library()
    if native is None or type(text) is not bytes or not text:
        return None
    lines = text.count(b"\n") + 1
    found = [room(size) for size in (8 * lines, 16 * lines, lines, 4 * lines, 4 * lines)]
    made = [room(size) for size in (8 * lines, 4 * lines + 4, 2 * lines, len(text) + lines, len(text) + lines)]
    table = _Table(address(text), len(text), changing, lines, *map(address, found), 0, 0, *map(address, made))
    call: Any = native.harken_kallsyms
    call.argtypes = (Pointer,)
    if not call(addressof(table)):
        return None
    count, starts, offsets, owners, block, modules = table.count, *made
    parts = starts[: 8 * count], offsets[: 4 * count + 4], owners[: 2 * count], block[: table.block_size]
    return *parts, bytes(modules[: table.modules_size]), table.addressed
