"""Maps and programs as text (bpftool's layouts) and as plain values for JSON.

``info`` is what the kernel tells of one: ``kernel.bpf_info``'s ``MapInfo`` or ``ProgramInfo``.

Example:
    >>> element_text(b"\\1\\0\\0\\0", b"\\5\\0", None)
    'key: 01 00 00 00  value: 05 00'
"""

from __future__ import annotations

from ..abi.bpf_names import MAP_TYPES, PROG_TYPES
from .ctype_value import decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..base.ctype import CType

    Types = tuple[CType | None, CType | None]

__all__ = ("element_json", "element_text", "hex_list", "map_json", "map_text", "program_json", "program_text", "source_lines")

#: longest key and value that stand on one line
_SHORT = 26


def hex_list(data: bytes) -> list[str]:
    """Bytes as bpftool's JSON has them."""
    return [f"0x{byte:02x}" for byte in data]


def _values(value: bytes, stride: int, size: int) -> list[bytes]:
    """A per-CPU lookup cut into the CPUs' values."""
    return [value[i : i + size] for i in range(0, len(value), stride)]


def element_text(key: bytes, value: bytes | None, types: Types | None, stride: int = 0, size: int = 0) -> str:
    """One element without types: bytes in hex.

    Args:
        value: None if there is none.
        stride, size: of a per-CPU map's values; 0 for other maps.
    """
    if stride:
        lines = ["key:", key.hex(" ")]
        lines += [f"value (CPU {cpu:02d}): {one.hex(' ')}" for cpu, one in enumerate(_values(value or b"", stride, size))]
        return "\n".join(lines)
    shown = value.hex(" ") if value is not None else "<no entry>"
    if not key:
        return f"value: {shown}"
    if len(key) + len(value or b"") > _SHORT:
        return f"key:\n{_block(key)}\nvalue:\n{_block(value) if value is not None else shown}"
    return f"key: {key.hex(' ')}  value: {shown}"


def _block(data: bytes) -> str:
    return "\n".join([data[i : i + 16].hex(" ") for i in range(0, len(data), 16)])


def element_json(
    key: bytes, value: bytes | None, types: Types | None, stride: int = 0, size: int = 0, formatted: bool = False
) -> dict[str, Any]:
    """One element as a plain value.

    Args:
        types: types of key and value, None if the kernel has none.
        formatted: only what the types say (what the text shows); else bytes, and the former under "formatted".
    """
    parts = _values(value or b"", stride, size) if stride else []
    typed: dict[str, Any] = {}
    if types is not None:
        key_type, value_type = types
        typed["key"] = decode(key_type, key) if key_type is not None else hex_list(key)
        if stride:
            typed["values"] = [{"cpu": cpu, "value": _one(value_type, one)} for cpu, one in enumerate(parts)]
        elif value is not None:
            typed["value"] = _one(value_type, value)
        if formatted:
            return typed
    plain: dict[str, Any] = {"key": hex_list(key)}
    if stride:
        plain["values"] = [{"cpu": cpu, "value": hex_list(one)} for cpu, one in enumerate(parts)]
    elif value is not None:
        plain["value"] = hex_list(value)
    if typed:
        plain["formatted"] = typed
    return plain


def _one(type: CType | None, data: bytes) -> Any:
    return decode(type, data) if type is not None else hex_list(data)


def map_json(info: Any, memory: int, holders: list[tuple[int, str]]) -> dict[str, Any]:
    """What ``map list`` tells of a map."""
    found: dict[str, Any] = {"id": info.id, "type": MAP_TYPES.get(info.type, str(info.type))}
    if info.name:
        found["name"] = info.name
    found.update(flags=info.flags, bytes_key=info.key_size, bytes_value=info.value_size, max_entries=info.max_entries, bytes_memlock=memory)
    if info.btf_id:
        found["btf_id"] = info.btf_id
    if holders:
        found["pids"] = [{"pid": pid, "comm": comm} for pid, comm in holders]
    return found


def map_text(info: Any, memory: int, holders: list[tuple[int, str]]) -> str:
    """The same as text."""
    name = f"  name {info.name}" if info.name else ""
    text = f"{info.id}: {MAP_TYPES.get(info.type, info.type)}{name}  flags {info.flags:#x}\n"
    text += f"\tkey {info.key_size}B  value {info.value_size}B  max_entries {info.max_entries}  memlock {memory}B"
    if info.btf_id:
        text += f"\n\tbtf_id {info.btf_id}"
    return text + _pids(holders)


def _pids(holders: list[tuple[int, str]]) -> str:
    return "\n\tpids " + ", ".join([f"{comm}({pid})" for pid, comm in holders]) if holders else ""


def program_json(info: Any, memory: int, loaded_at: int, holders: list[tuple[int, str]]) -> dict[str, Any]:
    """What ``prog list`` tells of a program; ``loaded_at`` in seconds since the epoch."""
    found: dict[str, Any] = {"id": info.id, "type": PROG_TYPES.get(info.type, str(info.type))}
    if info.name:
        found["name"] = info.name
    found.update(tag=info.tag.hex(), gpl_compatible=info.gpl_compatible)
    if info.run_cnt:
        found.update(run_time_ns=info.run_time_ns, run_cnt=info.run_cnt)
    if info.recursion_misses:
        found["recursion_misses"] = info.recursion_misses
    found.update(loaded_at=loaded_at, uid=info.uid, bytes_xlated=info.xlated_size, jited=bool(info.jited_size))
    if info.jited_size:
        found["bytes_jited"] = info.jited_size
    found["bytes_memlock"] = memory
    if info.verified_insns:
        found["verified_insns"] = info.verified_insns
    found["map_ids"] = list(info.map_ids)
    if info.btf_id:
        found["btf_id"] = info.btf_id
    if holders:
        found["pids"] = [{"pid": pid, "comm": comm} for pid, comm in holders]
    return found


def program_text(info: Any, memory: int, loaded_at: str, holders: list[tuple[int, str]]) -> str:
    """The same as text."""
    name = f"  name {info.name}" if info.name else ""
    text = f"{info.id}: {PROG_TYPES.get(info.type, info.type)}{name}  tag {info.tag.hex()}{'  gpl' if info.gpl_compatible else ''}"
    if info.run_cnt:
        text += f" run_time_ns {info.run_time_ns} run_cnt {info.run_cnt}"
    if info.recursion_misses:
        text += f" recursion_misses {info.recursion_misses}"
    text += f"\n\tloaded_at {loaded_at}  uid {info.uid}\n\txlated {info.xlated_size}B  "
    text += f"jited {info.jited_size}B" if info.jited_size else "not jited"
    text += f"  memlock {memory}B"
    if info.map_ids:
        text += "  map_ids " + ",".join([str(number) for number in info.map_ids])
    if info.btf_id:
        text += f"\n\tbtf_id {info.btf_id}"
    if info.verified_insns:
        text += f"\n\tverified instructions {info.verified_insns}"
    return text + _pids(holders)


def source_lines(rows: list[str], marks: dict[int, str]) -> list[str]:
    """Disassembled instructions with the user's source lines above those that they begin; ``marks``: slot -> line."""
    out = []
    for row in rows:
        number = row.partition(":")[0].strip()
        line = marks.get(int(number)) if number.isdecimal() else None
        if line:
            out.append(f"; {line.strip()}")
        out.append(f"  {row}")
    return out
