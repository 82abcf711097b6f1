"""BCC's Python interface: programs written for BCC run unchanged, without LLVM and kernel headers.

``python -m harken.bcc SCRIPT ARGS...`` runs a script that says ``from bcc import BPF``; new code says ``from harken.bcc import BPF``.  The
names are BCC's: ``BPF``, ``USDT``, ``PerfType``, ...; submodules are ``table``, ``utils``, ``syscall``, ``containers``, ``perf``, ``tcp``,
``exec``, ``usdt``.

Names are imported when they are asked for.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .bpf import BPF
    from .constants import (
        DEBUG_BPF,
        DEBUG_BPF_REGISTER_STATE,
        DEBUG_BTF,
        DEBUG_LLVM_IR,
        DEBUG_PREPROCESSOR,
        DEBUG_SOURCE,
        BPFAttachType,
        BPFProgType,
        PerfEventSampleFormat,
        PerfHWConfig,
        PerfSWConfig,
        PerfType,
        XDPAction,
        XDPFlags,
    )
    from .libbcc import lib
    from .names import SymbolCache
    from .perf import Perf
    from .table import PerfEventArray, RingBuf, Table
    from .usdt import USDT, USDTException
    from .utils import ArgString, StrcmpRewrite, get_online_cpus, printb
    from .version import __version__

__all__ = (
    "ArgString", "BPF", "BPFAttachType", "BPFProgType", "DEBUG_BPF", "DEBUG_BPF_REGISTER_STATE", "DEBUG_BTF", "DEBUG_LLVM_IR",
    "DEBUG_PREPROCESSOR", "DEBUG_SOURCE", "DEBUGFS", "Perf", "PerfEventArray", "PerfEventSampleFormat", "PerfHWConfig", "PerfSWConfig",
    "PerfType", "RingBuf", "StrcmpRewrite", "SymbolCache", "TRACEFS", "Table", "USDT", "USDTException", "XDPAction", "XDPFlags",
    "__version__", "get_online_cpus", "lib", "printb",
)  # fmt: skip

DEBUGFS = "/sys/kernel/debug"
TRACEFS = "/sys/kernel/tracing"

_HOMES = {
    "BPF": "bpf",
    "SymbolCache": "names",
    "Perf": "perf",
    "PerfEventArray": "table",
    "RingBuf": "table",
    "Table": "table",
    "USDT": "usdt",
    "USDTException": "usdt",
    "ArgString": "utils",
    "StrcmpRewrite": "utils",
    "get_online_cpus": "utils",
    "lib": "libbcc",
    "printb": "utils",
    "__version__": "version",
}
_SUBMODULES = ("containers", "disassembler", "exec", "libbcc", "perf", "syscall", "table", "tcp", "usdt", "utils", "version")


def __getattr__(name: str) -> Any:
    if name == "_get_num_open_probes":
        from .attach_kernel import open_probes

        return open_probes
    home = _HOMES.get(name)
    if home is None:
        if name in _SUBMODULES:
            return __import__(f"{__name__}.{name}", fromlist=("x",))
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = "constants"
    value = globals()[name] = getattr(__import__(f"{__name__}.{home}", fromlist=(name,)), name)
    return value
