"""``ustack(python)``: the Python functions that a CPython process runs, found by the program itself.

The interpreter keeps a linked list of frames for each of its threads.  The program finds the thread's state by its number, which the
interpreter notes in it, and follows the list; of each frame it takes two words: the address of the code object and that of the
instruction.  When it meets a code object for the first time, it tells the session of it by an event ``python_code``, with the function's
name, its file and the table of its lines, so that they are known however short the process lives (``session.python_names``).

::

    u64 process id | u64 code object, u64 instruction | ...

Three maps belong to it, one for all such stacks of a program:

===============  =======================  ============================================================================
``PROCESSES``    u32 process id           ``FIELDS``, which the session puts there; all zero: not known, or no CPython
``THREADS``      u32 thread id            u64 address of its state; checked before it is believed
``CODES``        u64 process, u64 code    whether the session was told of this code object
===============  =======================  ============================================================================

A process that is in none of them is told of by an event ``python_process``; what it does before the session has looked has no Python
frames.  Most processes are known before: those that run when tracing begins, and those that map an interpreter's file later.

Facts: ``symbols.python_offsets``; struct bpf_pidns_info, include/uapi/linux/bpf.h.
"""

from __future__ import annotations

from ...abi import bpf as abi
from ...base.diagnostics import Span
from ...formats.spec import MapSpec
from ..ir import I32, Const, Module, Value
from . import types as T
from .code import Code, Val
from .python_walk import CODES, FIELDS, PROCESSES, THREADS, Walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .builtin import Scope

__all__ = ("FIELDS", "PROCESSES", "THREADS", "CODES", "MOST_FRAMES", "check", "lower", "write_marked", "add_maps")

MOST_FRAMES = 512
_HEAD, _FRAME = 8, 16
_MOST_PROCESSES, _MOST_THREADS, _MOST_CODES = 8192, 8192, 65536


def check(scope: Scope, mode: str, limit: int, span: Span) -> T.Type:
    """The type of mode "python"; for any that takes Python's frames: notes that the maps are needed."""
    if limit > MOST_FRAMES:
        scope.error(f"ustack({mode}) takes at most {MOST_FRAMES} frames, {limit} given", span)
    scope.use("python")
    return T.stack("ustack", "python", min(limit, MOST_FRAMES))


def add_maps(module: Module) -> None:
    """The maps that all Python stacks of a module share."""
    module.maps[PROCESSES] = MapSpec(PROCESSES, abi.BPF_MAP_TYPE_HASH, 4, 8 * len(FIELDS), _MOST_PROCESSES)
    module.maps[THREADS] = MapSpec(THREADS, abi.BPF_MAP_TYPE_LRU_HASH, 4, 8, _MOST_THREADS)
    module.maps[CODES] = MapSpec(CODES, abi.BPF_MAP_TYPE_LRU_HASH, 16, 8, _MOST_CODES)


def lower(code: Code, kind: T.Type, site: Any) -> Val:
    """The value."""
    limit = kind.detail[1]

    def fill(to: Value, offset: int) -> None:
        write(to, offset)

    def append(to: Value) -> Value:
        return code.b.add(code.b.binary("shl", write(to, 0), Const(4)), Const(_HEAD))

    def write(to: Value, offset: int) -> Value:
        pid = code.current_pid()
        code.b.store(to, code.b.resize(pid, I32, False), offset)
        code.b.store(to, Const(0, I32), offset + 4)
        return _walk(code, pid, to, offset + _HEAD, limit)

    return Val(kind, fill=fill, append=append)


def write_marked(code: Code, to: Value, most: int) -> Value:
    """Writes the current thread's frames, with marks that tell which native frames ran them (``copied_stack``).

    A mark is a pair of 0 and an address on the C stack, inside of the native frame that runs the Python frames before it, back to the
    mark before.

    Args:
        to: where the pairs go.
        most: pairs.

    Returns: how many pairs there are.
    """
    return _walk(code, code.current_pid(), to, 0, most, True)


def _walk(code: Code, pid: Value, to: Value, offset: int, limit: int, marked: bool = False) -> Value:
    walk = Walk(code, pid, limit, marked)
    count = walk.run()
    code.b.copy(to, walk.frames, _FRAME * limit, offset)
    return count
