"""The recordings of ``mutate.py trace``: reads each in all ways, with the accelerator and without, and compares.

With ``--sanitize`` the accelerator is built with gcc's address and undefined behaviour sanitizers, and only its own ways are gone; it ends
the process with a report at the first byte that it reads or writes outside of its memory.
"""

from __future__ import annotations

import atexit
import gc
import mmap
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from harken import native
from harken.testing.trace_mutants import Good
from harken.testing.trace_ways import PRINTED, WAYS, differing, outcome, plain_python

#: Way -> (how often it was gone, its longest CPU time).
WAYS_SEEN: dict[str, tuple[int, float]] = {}

_RARE = frozenset(f"report {' '.join(words)}" for words in PRINTED)
_ALIKE = ("columns one by one", "json", "mem", "graph")
_SANITIZED = "HARKEN_SANITIZED_ACCELERATOR"
_FLAGS = "-g -O2 -std=gnu11 -shared -fPIC -fvisibility=hidden -fsanitize=address,undefined -fno-sanitize-recover=undefined".split()


def trace_seed(path: str) -> Good:
    return Good.of_file(Path(path).read_bytes(), path)


def file_of(pid: int) -> Path:
    """Where a process puts its recordings: in memory, if there is such a place."""
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
    return Path(folder, f"harken-mutant-{pid}.dat")


def read_trace(data: bytes, _path: str, source: random.Random) -> None:
    """Reads a recording in all ways, or in some where one is like another.

    Raises:
        AssertionError: something went wrong, or the accelerator does not give what plain Python gives.
    """
    gc.collect()
    file = file_of(os.getpid())
    file.write_bytes(data)
    some = {source.choice(sorted(_RARE)), source.choice(sorted(_RARE)), source.choice(_ALIKE)}
    chosen = [way for way in WAYS if way in some or way not in (*_RARE, *_ALIKE)]
    if os.environ.get(_SANITIZED):
        chosen = ["report 3.4", "columns", source.choice(("report", "report kernel", "columns one by one")), source.choice(sorted(_RARE))]
    problems = []
    for way in chosen:
        numpy = source.random() < 0.7
        try:
            fast = _timed(way, str(file), way)
            if os.environ.get(_SANITIZED):
                continue
            with plain_python(numpy):
                slow = _timed(way, str(file), f"{way}, in plain Python")
        except MemoryError:
            raise
        except Exception:
            problems.append(f"{way}: {traceback.format_exc(limit=-6)}")
        else:
            difference = differing(fast, slow)
            if difference:
                problems.append(f"{way}: the accelerator has something else{'' if numpy else ' (without numpy)'}: {difference[:1500]}")
    if problems:
        raise AssertionError("\n".join(problems))


def _timed(way: str, path: str, name: str) -> Any:
    begun = time.process_time()
    found = outcome(way, path)
    count, longest = WAYS_SEEN.get(name, (0, 0.0))
    WAYS_SEEN[name] = count + 1, max(longest, time.process_time() - begun)
    return found


class _NoMap(mmap.mmap):
    """Files are read instead, into memory whose ends the sanitizer knows."""

    def __new__(cls, *_args: Any, **_more: Any) -> _NoMap:
        raise OSError("no mappings")


def sanitize() -> None:
    """Uses an accelerator with sanitizers; starts the process again if it was started without them."""
    library = os.environ.get(_SANITIZED)
    if library is None:
        folder = tempfile.mkdtemp(prefix="harken-sanitized-")
        library = f"{folder}/native.so"
        sources = sorted(map(str, Path(native.__file__).parent.glob("*.c")))
        subprocess.run(["gcc", *_FLAGS, "-o", library, *sources], check=True)
        names = [["gcc", f"-print-file-name=lib{name}.so"] for name in ("asan", "ubsan")]
        found = [subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip() for words in names]
        more = {_SANITIZED: library, "LD_PRELOAD": " ".join(found), "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1"}
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | more)
    from harken.native import memory
    from harken.native.foreign import Library

    atexit.register(shutil.rmtree, Path(library).parent)
    native._found[:] = [Library(library)]
    assert native._found[0].harken_native_version() == native.VERSION
    memory.room = lambda size: memoryview(bytearray(max(size, 1)))[:size]  # from malloc, whose ends are watched
    mmap.mmap = _NoMap  # type: ignore[misc]
