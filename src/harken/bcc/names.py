"""Names and addresses: ``BPF.sym``, ``BPF.ksym``, ``BPF.ksymname``, ``SymbolCache``, functions of programs and libraries.

All of it is asked of ``symbols``: one symboliser per way of showing C++ names serves all processes.  Names are bytes, as in BCC.
"""

from __future__ import annotations

import os

from ..base.errors import HarkenError
from .utils import as_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..symbols.model import Frame

__all__ = ("Names", "SymbolCache", "kernel")

_state: dict[str, Any] = {}
#: what ``Frame.module`` calls the kernel itself
_KERNEL = ("[kernel.kallsyms]", "[kernel]")


def kernel() -> Any:
    """The running kernel, one object for all of BCC's classes."""
    found = _state.get("kernel")
    if found is None:
        from ..kernel.kernel import live

        found = _state["kernel"] = live()
    return found


def catalogue() -> Any:
    """What can be traced here, one object for all."""
    found = _state.get("catalogue")
    if found is None:
        from ..probes.catalogue import Catalogue

        found = _state["catalogue"] = Catalogue(kernel())
    return found


def _symbolizer(readable: bool = False) -> Any:
    key = "readable" if readable else "plain"
    found = _state.get(key)
    if found is None:
        from ..symbols.symbolizer import Symbolizer

        others: dict[str, Any] = {} if readable else {"demangle": False}
        if "symbols" in _state:
            others["kernel_symbols"] = _state["symbols"]
        found = _state[key] = Symbolizer(kernel(), **others)
        _state["symbols"] = found.kernel_symbols
    return found


def _kernel_symbols() -> Any:
    found = _state.get("symbols")
    if found is None:
        from ..symbols.kernel_symbols import KernelSymbols

        found = _state["symbols"] = KernelSymbols(kernel())
    return found


def _kernel_names() -> Any:
    """The kernel's symbols for questions whether there is one: a name that is missing does not make it read all symbols again."""
    found = _state.get("names")
    if found is None:
        from ..symbols.kernel_symbols import KernelSymbols

        found = _state["names"] = KernelSymbols(kernel(), look_again=False)
    return found


class SymbolCache:
    """Symbols of a process; of the kernel if ``pid`` is negative."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def resolve(self, addr: int, demangle: bool = True) -> tuple[bytes | None, int, bytes | None]:
        """(name, offset in it, module); without a symbol (None, offset in the file, module); (None, address, None) if nothing is known."""
        frame = self._frame(int(addr), demangle)
        module = self._module(frame)
        if frame.name:
            return os.fsencode(frame.name), frame.offset, module
        if module is not None and self.pid >= 0:
            mapping = _symbolizer(demangle).processes.find(self.pid, int(addr))
            if mapping is not None:
                return None, mapping.file_offset(int(addr)), module
        return None, int(addr), None

    def _frame(self, addr: int, demangle: bool) -> Frame:
        if self.pid < 0:
            found: Frame = _kernel_symbols().resolve(addr)
            return found
        frames: tuple[Frame, ...] = _symbolizer(demangle).resolve(self.pid, addr)
        return frames[-1]

    @staticmethod
    def _module(frame: Frame) -> bytes | None:
        if not frame.module:
            return None
        if frame.kind == "kernel" or frame.module in _KERNEL:
            return b"kernel" if frame.module in _KERNEL else os.fsencode(frame.module.strip("[]"))
        return os.fsencode(frame.module)

    def resolve_name(self, module: Any, name: Any) -> int:
        """The address of a symbol, -1 if there is none.

        Args:
            module: the file to look in (a process) or the kernel module; None: all.
        """
        text, owner = os.fsdecode(as_bytes(name)), os.fsdecode(as_bytes(module) or b"")
        try:
            if self.pid < 0:
                found = _kernel_names().addresses(text, owner)
            elif owner:
                found = _process_addresses(self.pid, owner, text)
            else:
                found = _symbolizer().addresses(text, pid=self.pid)
        except HarkenError:
            return -1
        return int(found[0]) if found else -1


def _process_addresses(pid: int, module: str, name: str) -> list[int]:
    """Addresses of a symbol in one of the files that a process has mapped."""
    tail = module.rpartition("/")[2]
    chosen = []
    for address in _symbolizer().addresses(name, pid=pid):
        mapping = _symbolizer().processes.find(pid, address)
        path = mapping.path if mapping is not None else ""
        if path == module or path.rpartition("/")[2] in (tail, f"lib{tail}.so") or path.rpartition("/")[2].startswith(f"lib{tail}.so."):
            chosen.append(address)
    return chosen


class Names:
    """The part of ``BPF`` that deals with names; all methods are static, as scripts call them on the class."""

    SymbolCache = SymbolCache
    _sym_caches: dict[int, Any] = {}
    _build_ids: dict[bytes, str] = {}

    @staticmethod
    def _sym_cache(pid: int) -> Any:
        """The symbols of a process (negative: of the kernel)."""
        pid = max(pid, -1)
        found = Names._sym_caches.get(pid)
        if found is None:
            found = Names._sym_caches[pid] = SymbolCache(pid)
        return found

    @staticmethod
    def sym(addr: Any, pid: int, show_module: bool = False, show_offset: bool = False, demangle: bool = True) -> bytes:
        """The name of the function that contains an address of a process.

        Args:
            addr: the address, or a frame with build id and offset of a stack with BPF_F_STACK_BUILD_ID.
            pid: negative: an address of the kernel.
            show_module: with the file, in brackets.
            show_offset: with the distance from the function's start.

        Returns:
            ``b"[unknown]"`` without symbol.
        """
        if hasattr(addr, "build_id"):
            name, offset, module = Names._of_build_id(addr)
        else:
            name, offset, module = Names._sym_cache(pid).resolve(addr, demangle)
        shown = name or b"[unknown]"
        if show_offset and name is not None:
            shown += b"+0x%x" % offset
        if show_module and module is not None:
            shown += b" [%s]" % os.path.basename(module)
        return shown

    @staticmethod
    def ksym(addr: int, show_module: bool = False, show_offset: bool = False) -> bytes:
        """The name of the kernel function that contains an address; see ``sym``."""
        return Names.sym(addr, -1, show_module, show_offset, False)

    @staticmethod
    def ksymname(name: Any) -> int:
        """The address of a kernel symbol, -1 if there is none."""
        return int(Names._sym_cache(-1).resolve_name(None, name))

    @staticmethod
    def _of_build_id(frame: Any) -> tuple[bytes | None, int, bytes | None]:
        """What is at an offset of the file with a build id, among those that ``add_module`` named."""
        path = Names._build_ids.get(bytes(frame.build_id))
        if path is None:
            return None, 0, None
        module = os.fsencode(path)
        try:
            elf = catalogue().binary(path)
            address = elf.address_of(frame.offset)
            found = elf.symbol_at(address if address is not None else frame.offset)
        except (HarkenError, OSError):
            found = None
        if found is None:
            return None, int(frame.offset), module
        name, offset = found
        return os.fsencode(name), offset, module

    @staticmethod
    def add_module(modname: Any) -> None:
        """Makes a program or library known for stacks with build ids."""
        name = os.fsdecode(as_bytes(modname))
        try:
            for path in catalogue().binaries(name):
                build_id = catalogue().binary(path).build_id
                if build_id:
                    raw = build_id if isinstance(build_id, bytes) else bytes.fromhex(build_id)
                    Names._build_ids[raw[:20].ljust(20, b"\0")] = path
        except (HarkenError, OSError):
            pass

    @staticmethod
    def find_library(libname: Any) -> bytes | None:
        """The path of a shared library ("c" -> libc.so.6's), None if there is none; what has a slash is a path already."""
        name: bytes = as_bytes(libname)
        if b"/" in name:
            return name
        found = catalogue().libraries(os.fsdecode(name))
        return os.fsencode(found[0]) if found else None

    @staticmethod
    def find_exe(bin_path: Any) -> bytes | None:
        """The path of a program: itself if it has a slash, else the first in PATH; None if it is not executable."""
        name = as_bytes(bin_path)

        def fits(path: bytes) -> bool:
            return os.path.isfile(path) and os.access(path, os.X_OK)

        if os.path.split(name)[0]:
            return name if fits(name) else None
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            path = os.path.join(os.fsencode(folder.strip('"')), name)
            if fits(path):
                return path
        return None

    @staticmethod
    def get_user_functions_and_addresses(name: Any, sym_re: Any) -> list[tuple[bytes, int]]:
        """(function, address in the file) of a program's or library's functions whose names match a regular expression."""
        import re

        path = Names._binary(os.fsdecode(as_bytes(name)))
        match: Callable[[bytes], Any] = re.compile(as_bytes(sym_re)).match
        elf = catalogue().binary(path)
        return [(os.fsencode(symbol), address) for symbol, address, _ in elf.functions() if match(os.fsencode(symbol))]

    @staticmethod
    def get_user_functions(name: Any, sym_re: Any) -> set[bytes]:
        """Names of a program's or library's functions that match a regular expression."""
        return {function for function, _ in Names.get_user_functions_and_addresses(name, sym_re)}

    @staticmethod
    def get_user_addresses(name: Any, sym_re: Any) -> set[int]:
        """The addresses of those functions: aliases once."""
        return {address for _, address in Names.get_user_functions_and_addresses(name, sym_re)}

    @staticmethod
    def _binary(name: str, pid: int = -1) -> str:
        """The file that a name stands for: a path, or a library without "lib"."""
        if "/" in name or pid > 0:
            found = catalogue().binaries(name, pid)
        else:
            found = catalogue().libraries(name) or catalogue().binaries(name)
        if not found:
            raise FileNotFoundError(f"could not find the program or library {name}")
        return str(found[0])

    @staticmethod
    def monotonic_time() -> float:
        """The clock of ``bpf_ktime_get_ns()``, in nanoseconds."""
        import time

        return float(time.clock_gettime_ns(time.CLOCK_MONOTONIC))
