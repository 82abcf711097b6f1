"""The running kernel's type information through an index on disk, and BTF ids for the loader.

The first start only finds where the types are (``formats.btf_scan``), and when it ends, sorts their names and stores that index with a copy
of the BTF (``formats.btf_index``); later starts map that file.  The key is what identifies a kernel build: its notes (build-id) and the
first page of its BTF, which states the sizes of all sections.  Modules have split BTF on top of the kernel's.
"""

from __future__ import annotations

import atexit
import sys

from ..base.errors import FormatError, KernelError
from .bpf_errors import refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..formats.btf import Btf
    from ..formats.btf_scan import Scan
    from .kernel import Kernel

__all__ = ("FOLDER", "LIMIT", "KernelTypes", "indexed_types", "keep", "module_types", "vmlinux_types")

FOLDER = "/sys/kernel/btf"
#: most bytes of BTF that are read
LIMIT = 256 << 20
#: for BTF of so many bytes, sorting all names is put off
_LARGE = range(1 << 20, 32 << 20)

#: what has no index yet: key -> (path, BTF, scan)
_scanned: dict[str, tuple[str, bytes, Scan]] = {}


def vmlinux_types(kernel: Kernel) -> Btf:
    """The kernel's own types.

    Raises:
        KernelError: this kernel has no BTF (CONFIG_DEBUG_INFO_BTF), or it cannot be read.
        FormatError: what it has is not BTF.
    """
    return indexed_types(kernel, f"{FOLDER}/vmlinux", _read(kernel, "vmlinux", 4096))


def module_types(kernel: Kernel, name: str, base: Btf) -> Btf:
    """A module's types on top of the kernel's; raises KernelError if it is not loaded or has none."""
    return indexed_types(kernel, f"{FOLDER}/{name}", _read(kernel, name, LIMIT), base)


def indexed_types(kernel: Kernel, path: str, head: bytes, base: Btf | None = None) -> Btf:
    """The BTF of a file through the index in the cache, which is made if it is not there.

    Args:
        path: a file of raw BTF.
        head: its first page, or all of it for split BTF.
        base: what split BTF stands on.

    Raises:
        FormatError: it is not BTF.
        OSError: it cannot be read.
    """
    from ..base import cache
    from ..formats.btf import Btf
    from ..formats.btf_index import FORMAT, Index, build

    notes = b""
    for source in ("/sys/kernel/notes", "/proc/version"):
        try:
            notes = kernel.read(source, 1 << 16)
            break
        except OSError:
            continue
    first = base.count if base else 1
    key = cache.digest(FORMAT, sys.byteorder, path, str(first), notes, head)
    view = cache.mapped("btf", key)
    if view is not None:
        try:
            index = Index(view)
            if index.copy is not None and index.first == first:
                return Btf(index.copy, path, base, index)
        except FormatError:
            pass
        cache.remove("btf", key)
    if key in _scanned:
        _, data, scan = _scanned[key]
        return Btf(data, path, base, scan)
    data = head if base else _whole(kernel, path, head)
    if base is None and len(data) in _LARGE and cache.cache_dir() is not None:
        from ..formats.btf_scan import Scan

        scan = Scan(data, path)
        if not _scanned:
            atexit.register(keep)
        _scanned[key] = path, data, scan
        return Btf(data, path, base, scan)
    made = build(data, path, first=first, base_strings=base.all_strings() if base else b"", copy=True)
    cache.store("btf", key, made)
    index = Index(made)
    assert index.copy is not None
    return Btf(index.copy, path, base, index)


def keep() -> None:
    """Stores the indexes that are not there yet; at the end of the process, which has better things to do before."""
    while _scanned:
        key, (path, data, scan) = _scanned.popitem()
        from ..base import cache
        from ..formats.btf_index import build

        try:
            cache.store("btf", key, build(data, path, copy=True, walked=(scan.positions, bytes(scan.kinds))))
        except (FormatError, KeyboardInterrupt):
            # a name is wrong that nobody asked for; or the user does not want to wait
            pass


def _whole(kernel: Kernel, path: str, head: bytes) -> bytes:
    """A file of BTF that begins with ``head``.

    Reading takes a system call for every 4 KB; newer kernels let the file be mapped (Linux 6.16, ``btf_sysfs_vmlinux_mmap``).
    """
    # struct btf_header: the strings come last
    length, start, strings = (int.from_bytes(head[place : place + 4], sys.byteorder) for place in (4, 16, 20))
    size = length + start + strings
    if len(head) < size <= LIMIT:
        try:
            fd = kernel.open(path)
            try:
                memory = kernel.mmap(fd, size, shared=False)
            finally:
                kernel.close(fd)
        except OSError:
            pass
        else:
            data = bytes(memory)
            memory.close()
            if data.startswith(head):
                return data
    return kernel.read(path, LIMIT)


def _read(kernel: Kernel, name: str, limit: int) -> bytes:
    try:
        return kernel.read(f"{FOLDER}/{name}", limit)
    except OSError as error:
        number = error.errno or 0
        if name == "vmlinux":
            message, hint = "this kernel has no type information", "it needs a kernel with CONFIG_DEBUG_INFO_BTF=y"
        else:
            message, hint = f"there is no type information of module {name!r}", "is the module loaded? 'harken list' shows those that are"
        raise KernelError(message, call=f"open({FOLDER}/{name})", errno=number, hint=hint) from None


class KernelTypes:
    """Answers which BTF object and id a kernel symbol has; everything is read on first use.

    Args:
        types: the kernel's BTF if the caller has it already.
    """

    def __init__(self, kernel: Kernel, types: Btf | None = None) -> None:
        self._kernel = kernel
        self._vmlinux = types
        self._modules: dict[str, tuple[Btf, int]] = {}

    @property
    def vmlinux(self) -> Btf:
        if self._vmlinux is None:
            self._vmlinux = vmlinux_types(self._kernel)
        return self._vmlinux

    def find(self, symbol: str, kind: str) -> tuple[int, int] | None:
        """(BTF id, descriptor of the module's BTF or 0 for the kernel's) of "name" or "module:name"; None if there is none.

        Args:
            kind: "func", "var", "typedef" or "struct".
        """
        module, _, name = symbol.rpartition(":")
        if not module or module == "vmlinux":
            number = self.vmlinux.id_of(name, kind)
            return None if number is None else (number, 0)
        types, fd = self._module(module)
        number = types.id_of(name, kind)
        if number is None:
            return None
        return number, fd if number >= types.first else 0

    def _module(self, name: str) -> tuple[Btf, int]:
        if name not in self._modules:
            types = module_types(self._kernel, name, self.vmlinux)
            self._modules[name] = (types, self._module_fd(name))
        return self._modules[name]

    def _module_fd(self, name: str) -> int:
        from .bpf_info import btf_info, fd_by_id, ids

        for number in ids(self._kernel, "btf"):
            fd = fd_by_id(self._kernel, "btf", number)
            if fd is None:
                continue
            try:
                info = btf_info(self._kernel, fd)
                if info.kernel_btf and info.name == name:
                    keep, fd = fd, -1
                    return keep
            finally:
                if fd >= 0:
                    self._kernel.close(fd)
        raise refusal("btf_get_fd_by_id", 2, f"the type information of module {name!r}")

    def close(self) -> None:
        """Closes the descriptors of modules' BTF."""
        modules, self._modules = self._modules, {}
        for _, fd in modules.values():
            self._kernel.close(fd)
