"""``harken map``: maps of any process: list them, look into them, change them.

Keys and values are typed in and shown as C values where the kernel knows their types (BTF), else as bytes.  Bytes are decimal, ``0x`` or
after ``hex`` hexadecimal; a single number is taken for the whole key or value; text in braces or brackets is JSON.
"""

from __future__ import annotations

import errno
import json
import sys

from ...abi import bpf as abi
from ...base.errors import KernelError, UsageError
from ..objects import dispatch, named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ...base.ctype import CType
    from ...kernel.bpf import Map
    from ...kernel.kernel import Kernel

__all__ = ("NAME", "HELP", "run")

NAME = "map"
HELP = "list, read and change BPF maps of any process"

USAGE = """\
usage: harken map [--json] COMMAND ...

    list [MAP]                          all maps: type, name, sizes, who holds them
    dump MAP                            all elements
    lookup MAP key KEY                  one element
    update MAP key KEY value VALUE [any|exist|noexist]
    delete MAP key KEY
    getnext MAP [key KEY]               the key after this one
    push|enqueue MAP value VALUE        queues and stacks
    pop|dequeue MAP, peek MAP
    clear MAP                           removes every element (arrays: sets them to zero)
    freeze MAP                          no more changes from user space
    pin MAP FILE                        keeps the map under a path of a bpf file system

    MAP     id N | name NAME | pinned FILE, or just N or NAME
    KEY, VALUE
            bytes (1 0 0 0, hex 01 00 00 00), one number (the whole key), or JSON ({"pid": 1, "comm": "sh"}, "text")
"""

_FLAGS = {"any": abi.BPF_ANY, "exist": abi.BPF_EXIST, "noexist": abi.BPF_NOEXIST}


def run(argv: Sequence[str]) -> int:
    """Runs the command with the arguments after its name; returns the exit status."""
    return dispatch(NAME, USAGE, _COMMANDS, argv)


def _out(value: Any) -> None:
    print(json.dumps(value))


def _one(kernel: Kernel, words: list[str]) -> tuple[Map, list[str]]:
    """The map that the words begin with, and the words after it; the caller closes it."""
    from ...kernel import bpf_dump

    how, what, rest = named(NAME, "map", ("id", "name", "pinned"), words)
    found: list[Map] = bpf_dump.find(kernel, "map", how, what)  # type: ignore[assignment]
    if len(found) > 1:
        numbers = ", ".join([str(one.info().id) for one in found])
        for one in found:
            one.close()
        raise UsageError(f"map: there are {len(found)} maps called {what!r}", f"name one by its id: {numbers}")
    return found[0], rest


class _Types:
    """Types of a map's keys and values as the kernel knows them."""

    def __init__(self, kernel: Kernel, map: Map) -> None:
        from ...kernel.bpf_dump import map_types

        self.btf, key, value = map_types(kernel, map.info())
        self.key: CType | None = self.btf.type(key) if self.btf is not None and key else None
        self.value: CType | None = self.btf.type(value) if self.btf is not None and value else None

    @property
    def pair(self) -> tuple[CType | None, CType | None] | None:
        return (self.key, self.value) if self.btf is not None else None


def _data(words: list[str], type: CType | None, size: int, what: str) -> bytes:
    """Typed words as bytes."""
    if not words:
        raise UsageError(f"map: the {what} is missing")
    text = " ".join(words)
    if text[0] in '{["':
        from ...render.ctype_value import encode

        if type is None:
            raise UsageError(f"the kernel does not know the type of this map's {what}", f"give its {size} bytes")
        try:
            return encode(type, json.loads(text), what)
        except ValueError as error:
            raise UsageError(f"{what}: not JSON: {error}") from None
    base = 0
    if words[0] == "hex":
        base, words = 16, words[1:]
    try:
        numbers = [int(word, base) for word in words]
    except ValueError:
        numbers = None
    if numbers is not None and len(numbers) == size and all(0 <= number < 256 for number in numbers) and (size != 1 or base):
        return bytes(numbers)
    if numbers is not None and len(numbers) == 1 and size <= 8 and not base:
        number = numbers[0]
        if not -(1 << (8 * size - 1)) <= number < 1 << 8 * size:
            raise UsageError(f"{what}: {number} does not fit into {size} bytes")
        return (number & (1 << 8 * size) - 1).to_bytes(size, sys.byteorder)
    if type is not None and len(words) == 1:
        from ...render.ctype_value import encode

        return encode(type, words[0], what)
    raise UsageError(f"{what}: has {size} bytes, got {len(words)}", f"give {size} numbers below 256, or one number" if size <= 8 else "")


def _split(words: list[str], *names: str) -> dict[str, list[str]]:
    """``key 1 0 value 2`` -> {"key": ["1", "0"], "value": ["2"]}."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for word in words:
        if word in names and word not in found:
            current = found.setdefault(word, [])
        elif current is None:
            raise UsageError(f"map: did not expect {word!r}", "the order is: " + ", ".join(f"{name} ..." for name in names))
        else:
            current.append(word)
    return found


def _list(kernel: Kernel, words: list[str], as_json: bool) -> int:
    from ...kernel import bpf_dump
    from ...render.bpf_objects import map_json, map_text

    if words:
        one, _ = _one(kernel, words)
        found = iter((one,))
    else:
        found = bpf_dump.maps(kernel)
    held = bpf_dump.holders(kernel)
    rows = []
    for map in found:
        with map:
            info, memory = map.info(), bpf_dump.memory_of(kernel, map.fd)
        owners = held.get(("map", info.id), [])
        if as_json:
            rows.append(map_json(info, memory, owners))
        else:
            print(map_text(info, memory, owners))
    if as_json:
        _out(rows[0] if words else rows)
    return 0


def _dump(kernel: Kernel, words: list[str], as_json: bool) -> int:
    from ...render.bpf_objects import element_json, element_text

    map, _ = _one(kernel, words)
    with map:
        types = _Types(kernel, map).pair
        stride, size = (map.stride, map.value_size) if map.per_cpu else (0, 0)
        if not map.key_size:
            raise UsageError(f"map {map.name!r} has no keys", "'harken map peek' shows the first element of a queue or stack")
        items = map.items()
        if as_json:
            _out([element_json(key, value, types, stride, size) for key, value in items])
        elif types is not None:
            print("[" + ",".join(["\n    " + json.dumps(element_json(k, v, types, stride, size, True)) for k, v in items]) + "\n]")
        else:
            for key, value in items:
                print(element_text(key, value, None, stride, size))
            print(f"Found {len(items)} element{'' if len(items) == 1 else 's'}")
    return 0


def _lookup(kernel: Kernel, words: list[str], as_json: bool) -> int:
    map, rest = _one(kernel, words)
    with map:
        types = _Types(kernel, map)
        key = _data(_split(rest, "key").get("key", []), types.key, map.key_size, "key") if map.key_size else b""
        return _show(map, types, key, map.lookup(key), as_json)


def _show(map: Map, types: _Types, key: bytes, value: bytes | None, as_json: bool) -> int:
    from ...render.bpf_objects import element_json, element_text

    stride, size = (map.stride, map.value_size) if map.per_cpu else (0, 0)
    if value is None:
        if as_json:
            print("null")
        else:
            print(f"key:\n{key.hex(' ')}\n\nNot found" if key else "Error: empty map")
        return 1
    if as_json:
        _out(element_json(key, value, types.pair, stride, size))
    elif types.pair is not None:
        print(json.dumps(element_json(key, value, types.pair, stride, size, True), indent=4))
    else:
        print(element_text(key, value, None, stride, size))
    return 0


def _update(kernel: Kernel, words: list[str], as_json: bool) -> int:
    map, rest = _one(kernel, words)
    with map:
        flag = _FLAGS[rest.pop()] if rest and rest[-1] in _FLAGS else abi.BPF_ANY
        types = _Types(kernel, map)
        parts = _split(rest, "key", "value")
        key = _data(parts.get("key", []), types.key, map.key_size, "key") if map.key_size else b""
        value = _data(parts.get("value", []), types.value, map.value_size, "value")
        try:
            map.update(key, value, flag)
        except KernelError as error:
            if error.errno in (errno.EEXIST, errno.ENOENT):
                raise UsageError("the key is there already" if error.errno == errno.EEXIST else "there is no such key") from None
            raise
    if as_json:
        print("null")
    return 0


def _delete(kernel: Kernel, words: list[str], as_json: bool) -> int:
    map, rest = _one(kernel, words)
    with map:
        key = _data(_split(rest, "key").get("key", []), _Types(kernel, map).key, map.key_size, "key")
        if not map.delete(key):
            raise UsageError("there is no such key")
    if as_json:
        print("null")
    return 0


def _getnext(kernel: Kernel, words: list[str], as_json: bool) -> int:
    from ...render.bpf_objects import hex_list

    map, rest = _one(kernel, words)
    with map:
        parts = _split(rest, "key")
        key = _data(parts["key"], _Types(kernel, map).key, map.key_size, "key") if parts.get("key") else None
        found = map.next_key(key)
    if found is None:
        raise UsageError("there is no key after this one" if key is not None else "the map is empty")
    if as_json:
        _out({"key": hex_list(key) if key is not None else None, "next_key": hex_list(found)})
    else:
        print(f"key: None\nnext key:\n{found.hex(' ')}" if key is None else f"key:\n{key.hex(' ')}\nnext key:\n{found.hex(' ')}")
    return 0


def _pop(kernel: Kernel, words: list[str], as_json: bool) -> int:
    map, _ = _one(kernel, words)
    with map:
        return _show(map, _Types(kernel, map), b"", map.pop(), as_json)


def _clear(kernel: Kernel, words: list[str], as_json: bool) -> int:
    map, _ = _one(kernel, words)
    with map:
        map.clear()
    return 0


def _freeze(kernel: Kernel, words: list[str], as_json: bool) -> int:
    map, _ = _one(kernel, words)
    with map:
        map.freeze()
    return 0


def _pin(kernel: Kernel, words: list[str], as_json: bool) -> int:
    map, rest = _one(kernel, words)
    with map:
        if len(rest) != 1:
            raise UsageError("map: pin MAP FILE")
        map.pin(rest[0])
    return 0


_COMMANDS = {
    "list": _list, "show": _list, "dump": _dump, "lookup": _lookup, "update": _update, "delete": _delete, "getnext": _getnext,
    "push": _update, "enqueue": _update, "pop": _pop, "dequeue": _pop, "peek": _lookup, "clear": _clear, "freeze": _freeze, "pin": _pin,
}  # fmt: skip
