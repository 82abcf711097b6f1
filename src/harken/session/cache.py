"""The cache of compiled programs: a second start compiles nothing and imports nothing of the compiler.

A unit is kept under a key made of everything that compiling depends on: the source text and its name, parameters and options, the
environment variables that configure programs, harken's version and code, the kernel's build, this boot, and the caller's identity
and privileges (which decide what the kernel offers).  What else it depends on (a traced binary, the set of loaded modules), the
compiler says in ``Unit.depends``; those are checked when the entry is loaded.

Entries are ``marshal`` data behind a version tag and a hash, in the private directory of ``base.cache``.  A damaged entry is a miss.

Dependencies:

==================================  =================================================================
``("file", path, size, mtime_ns)``  the file has not changed
``("content", path, digest)``       the file holds this; with an empty digest: there is none
``("modules", names)``              the loaded kernel modules are these (sorted, joined by spaces)
``("tracefs", category, event)``    the tracepoint is of this boot (the key says so) and still there
``("boot", id)``                    it is still this boot
``("never",)``                      cannot be told: compile each time
==================================  =================================================================
"""

from __future__ import annotations

import marshal
import os
import sys

from ..base import cache
from ..compiler.unit import Unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..kernel.kernel import Kernel

__all__ = ("unit_key", "load_unit", "store_unit", "holds")

_KIND = "unit"
_VERSION = 2
#: Folders whose code decides what a unit looks like.
_CODE = "base compiler compiler/builtins compiler/passes compiler/backends/bpf formats probes probes/providers probes/attachers".split()


def unit_key(kernel: Kernel, name: str, text: str, options: Iterable[Any] = (), language: str = "languages/bpftrace") -> str:
    """The key of a program on this kernel, for this user.

    Args:
        language: the folder of the front end, whose code is part of the key.
        kernel: asked for boot id and privileges.
        name, text: the source.
        options: everything else that the compiler is told, as plain data with a stable ``repr``.
    """
    from .. import __version__

    system = os.uname()
    environment = [
        f"{name}={value}{_stamp(value) if name.endswith('_BTF') else ''}"
        for name, value in sorted(os.environ.items())
        if name.startswith(("BPFTRACE_", "HARKEN_CONFIG_")) or name == "HARKEN_BTF"
    ]
    parts = (
        f"{_VERSION} {__version__} {sys.version_info[:3]}",
        _code(language, __version__),
        f"{system.release} {system.version} {system.machine}",
        _read(kernel, "/proc/sys/kernel/random/boot_id"),
        f"{os.geteuid()}",
        _privileges(kernel),
        name,
        text,
        repr(tuple(options)),
        repr(environment),
    )
    return cache.digest(*parts)


def _stamp(path: str) -> str:
    """What tells one version of a file from another."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f" {status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def load_unit(kernel: Kernel, key: str) -> Unit | None:
    """The unit kept under ``key`` if it is whole and what it depends on still holds; else None."""
    data = cache.load(_KIND, key)
    if data is None or len(data) < 32:
        return None
    body = memoryview(data)[32:]
    if cache.digest(bytes(body)).encode() != bytes(data[:32]):
        cache.remove(_KIND, key)
        return None
    try:
        unit = Unit.from_plain(marshal.loads(body))
        if not all(holds(kernel, dependency) for dependency in unit.depends):
            return None
        return unit
    except Exception:  # whatever old or foreign data does: compile again
        cache.remove(_KIND, key)
        return None


def store_unit(key: str, unit: Unit) -> bool:
    """Keeps ``unit``; False if it cannot be kept (no cache directory, values that are not plain)."""
    try:
        body = marshal.dumps(unit.to_plain())
    except ValueError:
        return False
    return cache.store(_KIND, key, cache.digest(body).encode() + body)


def holds(kernel: Kernel, dependency: tuple[Any, ...]) -> bool:
    """Whether a dependency is still as it was; one of unknown kind is not."""
    kind, *rest = dependency
    if kind == "file":
        try:
            state = os.stat(rest[0])
        except OSError:
            return False
        return rest[1:] == [state.st_size, state.st_mtime_ns]
    if kind == "content":
        try:
            with open(rest[0], "rb") as file:
                return bool(cache.digest(file.read()) == rest[1])
        except OSError:
            return bool(rest[1] == "")
    if kind == "modules":
        lines = _read(kernel, "/proc/modules").split(b"\n")
        return bool(" ".join(sorted([line.split(b" ", 1)[0].decode() for line in lines if line])) == rest[0])
    if kind == "tracefs":
        folders = [f"{root}/events/{rest[0]}/{rest[1]}" for root in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")]
        # not mounted now: whoever attaches mounts it and finds out
        return any(map(kernel.exists, folders)) or not kernel.exists("/sys/kernel/tracing/events")
    if kind == "boot":
        return _read(kernel, "/proc/sys/kernel/random/boot_id").strip().decode() == str(rest[0]).strip()
    return False


def _read(kernel: Kernel, path: str) -> bytes:
    try:
        return kernel.read(path)
    except OSError:
        return b""


def _privileges(kernel: Kernel) -> bytes:
    """Capabilities, whether system calls are filtered, and what perf events may be: answers about features go by these, too."""
    own = [line for line in _read(kernel, "/proc/self/status").split(b"\n") if line.startswith((b"CapEff:", b"Seccomp:"))]
    return b"\n".join([*own, _read(kernel, "/proc/sys/kernel/perf_event_paranoid")])


def _code(language: str, version: str) -> str:
    """What tells one state of the compiler from another: an edited or updated harken compiles anew.

    What pip has installed is changed by pip, which then writes the list of its files anew.  Elsewhere (a working tree) it is the sizes and
    times of all modules concerned.
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    installed = _stamp(f"{os.path.dirname(root)}/harken-{version}.dist-info/RECORD")
    if installed:
        return installed
    found = []
    for folder in (*_CODE, language):
        try:
            with os.scandir(f"{root}/{folder}") as entries:
                for entry in entries:
                    if entry.name.endswith(".py"):
                        state = entry.stat()
                        found.append(f"{folder}/{entry.name} {state.st_size} {state.st_mtime_ns}")
        except OSError:
            found.append(folder)
    found.sort()
    return "\n".join(found)
