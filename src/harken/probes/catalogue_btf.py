"""The BTF of the running kernel and its modules, through the index in the cache.

The first start walks all types and stores the index with a copy of the BTF (``formats.btf_index``); later starts map that file.  The key is
what identifies a kernel build: its notes (build-id) and the first page of its BTF, which states the sizes of all sections.
"""

from __future__ import annotations

import errno
import os
import sys

from ..base import cache
from ..base.errors import FormatError
from ..formats.btf import Btf
from ..formats.btf_index import FORMAT, Index, build

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.kernel import Kernel

__all__ = ("kernel_btf", "module_btf", "module_tracepoints", "ROOT")

ROOT = "/sys/kernel/btf"
_LIMIT = 256 << 20


def kernel_btf(kernel: Kernel) -> tuple[Btf | None, str]:
    """The kernel's BTF, or None and the reason.

    ``$HARKEN_BTF`` (or bpftrace's ``$BPFTRACE_BTF``) names a file to use instead, raw BTF or an ELF file with it.

    Raises:
        FormatError: there is BTF, but it is damaged.
    """
    other = os.environ.get("HARKEN_BTF") or os.environ.get("BPFTRACE_BTF")
    path = other or f"{ROOT}/vmlinux"
    try:
        head = kernel.read(path, 4096)
    except OSError as error:
        return None, _reason(path, error)
    if head[:4] == b"\x7fELF":
        from ..formats.btf import from_file

        return from_file(kernel.read(path, _LIMIT), path), ""
    return _cached(kernel, path, head, None), ""


def module_btf(kernel: Kernel, module: str, base: Btf) -> Btf | None:
    """The split BTF of a loaded module, None if it has none; raises FormatError if it is damaged."""
    if not module or "/" in module or module in ("vmlinux", ".", ".."):
        return None
    path = f"{ROOT}/{module}"
    try:
        head = kernel.read(path, _LIMIT)
    except OSError:
        return None
    return _cached(kernel, path, head, base)


def module_tracepoints(kernel: Kernel, modules: list[str]) -> list[str]:
    """Names of the raw tracepoints that modules' BTF describes (their ``btf_trace_NAME`` typedefs), found without parsing types."""
    found = []
    for module in modules:
        try:
            data = kernel.read(f"{ROOT}/{module}", _LIMIT)
        except OSError:
            continue
        place = data.find(b"\0btf_trace_")
        while place >= 0:
            end = data.find(b"\0", place + 1)
            name = data[place + 11 : end]
            if name.isascii():
                found.append(name.decode())
            place = data.find(b"\0btf_trace_", end)
    return found


def _cached(kernel: Kernel, path: str, head: bytes, base: Btf | None) -> Btf:
    try:
        notes = kernel.read("/sys/kernel/notes", 1 << 16)
    except OSError:
        notes = b""
        try:
            notes = kernel.read("/proc/version", 4096)
        except OSError:
            pass
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
    data = head if base else kernel.read(path, _LIMIT)
    made = build(data, path, first=first, base_strings=base.all_strings() if base else b"", copy=True)
    cache.store("btf", key, made)
    index = Index(made)
    assert index.copy is not None
    return Btf(index.copy, path, base, index)


def _reason(path: str, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        if path.startswith(ROOT):
            return "this kernel carries no BTF: it was built without CONFIG_DEBUG_INFO_BTF"
        return f"{path} does not exist"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{path} may not be read by this user"
    return f"{path} cannot be read: {os.strerror(error.errno or 0)}"
