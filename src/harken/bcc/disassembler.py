"""Programs and tables as text (``BPF.disassemble_func``, ``BPF.decode_table``).

Example:
    >>> import ctypes
    >>> class Key(ctypes.Structure):
    ...     _fields_ = [("pid", ctypes.c_uint), ("slot", ctypes.c_ulonglong)]
    >>> print(layout_text(Key, "key", True))
    key: struct Key { /* 16 bytes */
        pid: c_uint /* at 0, 4 bytes */
        slot: c_ulong /* at 8, 8 bytes */
    }
"""

from __future__ import annotations

import ctypes as ct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("decode_map", "disassemble_prog", "layout_text")


def disassemble_prog(func_name: str, bpfstr: bytes) -> str:
    """A function's instructions, one on a line."""
    from ..formats.insn import disassemble

    return "\n".join([f"Disassemble of BPF program {func_name}:", *disassemble(bpfstr)])


def layout_text(kind: Any, name: str, sizes: bool = False, indent: str = "", place: str = "") -> str:
    """A ctypes class as text: structs with their members."""
    size = f"{place}{ct.sizeof(kind)} bytes"
    if issubclass(kind, (ct.Structure, ct.Union)):
        word = "struct" if issubclass(kind, ct.Structure) else "union"
        head = f"{indent}{name}: {word} {kind.__name__}".rstrip() + " {" + (f" /* {size} */" if sizes else "")
        lines = [head]
        for member, inner, *_ in kind._fields_:
            offset = getattr(kind, member).offset
            lines.append(layout_text(inner, member, sizes, indent + "    ", f"at {offset}, "))
        return "\n".join([*lines, indent + "}"])
    shown = kind.__name__
    if issubclass(kind, ct.Array):
        shown = f"{kind._type_.__name__}[{kind._length_}]"
    return f"{indent}{name}: {shown}" + (f" /* {size} */" if sizes else "")


def decode_map(map_name: str, map_obj: Any, map_type: int, sizeinfo: bool = False) -> str:
    """The layout of a table's keys and values."""
    from .table import get_table_type_name

    lines = [f"Layout of BPF map {map_name} (type {get_table_type_name(map_type)}, FD {map_obj.map_fd}, ID {map_obj.map_id}):"]
    if hasattr(map_obj, "Key"):
        lines.append(layout_text(map_obj.Key, "key", sizeinfo, "  "))
    lines.append(layout_text(map_obj.Leaf, "value", sizeinfo, "  "))
    return "\n".join(lines)
