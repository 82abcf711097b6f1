"""``bcc.libbcc``: the few functions of BCC's C library that scripts call themselves, on harken's own objects.

``lib.bpf_table_fd(b.module, name)``, symbols of files (``bcc_resolve_symname``), elements of maps by descriptor, paths of libraries, the
language of a process.  As in C, an int below 0 says that something failed.  The rest of the library is what ``BPF`` does; asking for it
says so.
"""

from __future__ import annotations

import ctypes as ct
import os

from ..base.errors import HarkenError, KernelError
from .utils import as_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("bcc_symbol", "bcc_symbol_option", "lib")


class bcc_symbol(ct.Structure):  # noqa: N801 - BCC's name
    """A symbol; ``offset`` is its address in the file ``module``."""

    _fields_ = [
        ("name", ct.c_char_p),
        ("demangle_name", ct.c_char_p),
        ("module", ct.POINTER(ct.c_char)),
        ("offset", ct.c_ulonglong),
    ]


class bcc_symbol_option(ct.Structure):  # noqa: N801 - BCC's name
    """Which symbols count: bit N of ``use_symbol_type`` stands for ELF's type N (10: indirect functions), 0 for all."""

    _fields_ = [
        ("use_debug_file", ct.c_int),
        ("check_debug_file_crc", ct.c_int),
        ("lazy_symbolize", ct.c_int),
        ("use_symbol_type", ct.c_uint),
    ]


#: ELF's number of a kind of symbol
_KINDS = {"notype": 0, "object": 1, "func": 2, "section": 3, "file": 4, "common": 5, "tls": 6, "ifunc": 10}


def _pointed(pointer: Any, kind: Any) -> Any:
    """What a pointer, or the result of byref(), points to."""
    return ct.cast(pointer, ct.POINTER(kind)).contents


def _bytes(pointer: Any, size: int) -> bytes:
    return ct.string_at(ct.cast(pointer, ct.c_void_p), size)


class _Library:
    """What stands for the C library."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"harken has no lib.{name}(): use the methods of BPF; libbcc is not there")

    # -- the maps of a program

    @staticmethod
    def bpf_table_fd(module: Any, name: Any) -> int:
        """The descriptor of a table; -1 if the program has none of that name."""
        found = module.maps_live.get(os.fsdecode(as_bytes(name)))
        return -1 if found is None else int(found.fd)

    @staticmethod
    def bpf_table_id(module: Any, name: Any) -> int:
        """The position of a table in the program, -1 if there is none."""
        names = list(module.tables)
        text = os.fsdecode(as_bytes(name))
        return names.index(text) if text in names else -1

    @staticmethod
    def bpf_table_type_id(module: Any, number: int) -> int:
        return int(list(module.tables.values())[number].type)

    @staticmethod
    def bpf_table_max_entries_id(module: Any, number: int) -> int:
        return int(list(module.tables.values())[number].max_entries)

    @staticmethod
    def bpf_num_functions(module: Any) -> int:
        return len(module.functions)

    @staticmethod
    def bpf_function_name(module: Any, number: int) -> bytes | None:
        names = list(module.functions)
        return names[number].encode() if 0 <= number < len(names) else None

    # -- elements by descriptor

    @staticmethod
    def bpf_lookup_elem(fd: int, key: Any, leaf: Any) -> int:
        """Copies the value of a key to ``leaf``; -1 if there is none."""

        def look(map: Any) -> int:
            found = map.lookup(_bytes(key, map.key_size))
            if found is None:
                return -1
            ct.memmove(ct.cast(leaf, ct.c_void_p), found, len(found))
            return 0

        return _on_map(fd, look)

    @staticmethod
    def bpf_update_elem(fd: int, key: Any, leaf: Any, flags: int) -> int:
        def store(map: Any) -> int:
            map.update(_bytes(key, map.key_size), _bytes(leaf, map.lookup_size), flags)
            return 0

        return _on_map(fd, store)

    @staticmethod
    def bpf_delete_elem(fd: int, key: Any) -> int:
        return _on_map(fd, lambda map: 0 if map.delete(_bytes(key, map.key_size)) else -1)

    # -- symbols, files, processes

    @staticmethod
    def bcc_resolve_symname(module: Any, symname: Any, addr: int, pid: int, option: Any, sym: Any) -> int:
        """Finds a symbol in a program or library and describes it in ``sym``; -1 if there is none of a type that ``option`` wants."""
        from .names import Names, catalogue

        wanted = _pointed(option, bcc_symbol_option).use_symbol_type if option else 0
        try:
            path = Names._binary(os.fsdecode(as_bytes(module)), pid if pid and pid > 0 else -1)
            offset = addr
            if symname:
                names = catalogue().binary(path).symbols_named(os.fsdecode(as_bytes(symname)))
                fitting = [one for one in names if not wanted or wanted >> _KINDS.get(one.kind, 31) & 1]
                if not fitting:
                    return -1
                offset = fitting[0].value + addr
        except (HarkenError, OSError):
            return -1
        found = _pointed(sym, bcc_symbol)
        text = ct.create_string_buffer(os.fsencode(path))
        _kept.append(text)
        found.name = as_bytes(symname) or None
        found.module = ct.cast(text, ct.POINTER(ct.c_char))
        found.offset = offset
        return 0

    @staticmethod
    def bcc_procutils_which_so(name: Any, pid: int = 0) -> bytes | None:
        """The path of a library ("c")."""
        from .names import Names

        return Names.find_library(name)

    @staticmethod
    def bcc_procutils_language(pid: int) -> bytes | None:
        from .utils import detect_language

        found = detect_language(("java", "node", "perl", "php", "python", "ruby"), pid)
        return found.encode() if found else None

    @staticmethod
    def bcc_procutils_free(pointer: Any) -> None:
        """Nothing: Python frees."""

    @staticmethod
    def bpf_has_kernel_btf() -> int:
        from .names import catalogue

        return int(catalogue().btf is not None)

    @staticmethod
    def kernel_struct_has_field(struct_name: Any, field_name: Any) -> int:
        from .facts import Facts

        return Facts.kernel_struct_has_field(struct_name, field_name)


#: texts that symbols point to
_kept: list[Any] = []


def _on_map(fd: int, do: Any) -> int:
    """Does something with the map behind a descriptor of the caller's."""
    from ..kernel.bpf import Map
    from .names import kernel

    try:
        map = Map.from_fd(kernel(), os.dup(fd))
    except (OSError, KernelError):
        return -1
    try:
        return int(do(map))
    except KernelError:
        return -1
    finally:
        map.close()


lib = _Library()
