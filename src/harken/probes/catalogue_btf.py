"""The BTF of the running kernel and its modules, through the index in the cache (``kernel.btf``)."""

from __future__ import annotations

import errno
import os

from ..base.errors import FormatError
from ..kernel.btf import FOLDER as ROOT
from ..kernel.btf import LIMIT as _LIMIT
from ..kernel.btf import indexed_types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..formats.btf import Btf
    from ..kernel.kernel import Kernel

__all__ = ("kernel_btf", "module_btf", "module_tracepoints", "ROOT")


def kernel_btf(kernel: Kernel) -> tuple[Btf | None, str]:
    """The kernel's BTF, or None and the reason.

    ``$HARKEN_BTF`` (or bpftrace's ``$BPFTRACE_BTF``) names a file to use instead, raw BTF or an ELF file with it.

    Raises:
        FormatError: there is BTF, but it is damaged, or the file so named cannot be read.
    """
    other = os.environ.get("HARKEN_BTF") or os.environ.get("BPFTRACE_BTF")
    path = other or f"{ROOT}/vmlinux"
    try:
        head = kernel.read(path, 4096)
    except OSError as error:
        if other:
            problem = FormatError(path, f"cannot be read: {os.strerror(error.errno or 0)}")
            problem.hint = "it was named by $HARKEN_BTF or $BPFTRACE_BTF to be used instead of the kernel's own types"
            raise problem from None
        return None, _reason(path, error)
    if head[:4] == b"\x7fELF":
        from ..formats.btf import from_file

        return from_file(kernel.read(path, _LIMIT), path), ""
    return indexed_types(kernel, path, head), ""


def module_btf(kernel: Kernel, module: str, base: Btf) -> Btf | None:
    """The split BTF of a loaded module, None if it has none; raises FormatError if it is damaged."""
    if not module or "/" in module or module in ("vmlinux", ".", ".."):
        return None
    path = f"{ROOT}/{module}"
    try:
        head = kernel.read(path, _LIMIT)
    except OSError:
        return None
    return indexed_types(kernel, path, head, base)


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


def _reason(path: str, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "this kernel carries no BTF: it was built without CONFIG_DEBUG_INFO_BTF"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{path} may not be read by this user"
    return f"{path} cannot be read: {os.strerror(error.errno or 0)}"
