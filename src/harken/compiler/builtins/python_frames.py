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
from ..ir import I8, I32, Const, Module, Value
from ..passes.legalise import RECORD
from . import types as T
from .code import Code, Val
from .events import emit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .builtin import Scope

__all__ = ("FIELDS", "PROCESSES", "THREADS", "CODES", "MOST_FRAMES", "check", "lower", "add_maps")

PROCESSES, THREADS, CODES = "harken_python", "harken_py_tids", "harken_py_code"
#: What the session tells of a process, u64 each: addresses, then offsets as ``symbols.python_offsets`` names them.  ``indirect``: the
#: thread's state points to a struct that points to the frame (3.11, 3.12).  ``device`` and ``inode`` of its PID namespace; 0: ours.
FIELDS = (
    "runtime", "interpreters_head", "interpreter_next", "threads_head", "thread_next", "native_thread_id", "current_frame", "indirect",
    "cframe_frame", "previous", "executable", "instr_ptr", "owner", "device", "inode", "qualname", "filename", "linetable", "firstlineno",
    "string_state", "string_ascii_size", "bytes_length", "bytes_data",
)  # fmt: skip
MOST_FRAMES = 512
_HEAD, _FRAME = 8, 16
_MOST_PROCESSES, _MOST_THREADS, _MOST_CODES = 8192, 8192, 65536
#: Thread states that are looked at to find one.
_LOOKED_AT = 256
#: Bytes of names, of paths and of line tables that are taken along; what is longer is read by the session.
_NAME, _PATH, _TABLE = 256, 512, 1024
#: Frames with this owner or a higher one are the interpreter's own (FRAME_OWNED_BY_CSTACK; none in 3.11).
_OWNED_BY_C = 3
_NOEXIST = 1


def check(scope: Scope, limit: int, span: Span) -> T.Type:
    """The type; notes that the maps are needed."""
    if limit > MOST_FRAMES:
        scope.error(f"ustack(python) takes at most {MOST_FRAMES} frames, {limit} given", span)
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

    def head(to: Value, offset: int) -> Value:
        pid = code.current_pid()
        code.b.store(to, code.b.resize(pid, I32, False), offset)
        code.b.store(to, Const(0, I32), offset + 4)
        return pid

    def fill(to: Value, offset: int) -> None:
        pid = head(to, offset)
        frames = code.b.alloca(_FRAME * limit, RECORD)
        code.b.zero(frames, _FRAME * limit)
        _Walk(code, pid, frames, limit).run()
        code.b.copy(to, frames, _FRAME * limit, offset + _HEAD)

    def append(to: Value) -> Value:
        pid = head(to, 0)
        count = _Walk(code, pid, code.at(to, _HEAD), limit).run()
        return code.b.add(code.b.binary("shl", count, Const(4)), Const(_HEAD))

    return Val(kind, fill=fill, append=append)


class _Walk:
    """Builds one walk through the frames of the current thread; ``to`` is where they are written."""

    def __init__(self, code: Code, pid: Value, to: Value, limit: int) -> None:
        self.code, self.b, self.pid, self.to, self.limit = code, code.b, pid, to, limit
        self.word = self.b.alloca(8, "word")
        self.info: Value

    def field(self, name: str) -> Value:
        return self.b.load(self.info, offset=8 * FIELDS.index(name))

    def read(self, address: Value, name: str = "") -> Value:
        """The word at an address plus the offset called ``name``; 0 if it cannot be read (the kernel clears the destination)."""
        self.b.helper("probe_read_user", self.word, Const(8), self.b.add(address, self.field(name)) if name else address)
        return self.b.load(self.word)

    def run(self) -> Value:
        """Writes the frames; returns their number, bounded for the verifier."""
        code, b = self.code, self.b
        count = code.slot("frames", 0)
        key = b.alloca(4, "process")
        b.store(key, b.resize(self.pid, I32, False))
        self.info = b.lookup(PROCESSES, key)
        known, unknown, walk, done = (b.block(name) for name in ("known", "unknown", "walk", "walked"))
        b.not_null(self.info, known, unknown)
        b.goto(unknown)
        # two at once: one is told of, which is enough
        fresh = b.update(PROCESSES, key, b.bytes(bytes(8 * len(FIELDS))), _NOEXIST)
        code.when(b.icmp("eq", fresh, Const(0)), lambda: emit(code, "python_process", (), [("pid", Val(T.UINT64, self.pid))]))
        b.br(done)
        b.goto(known)
        b.condbr(b.icmp("ne", self.field("runtime"), Const(0)), walk, done)
        b.goto(walk)
        self.frames(self.thread(), count)
        b.br(done)
        b.goto(done)
        return self.bounded(count, self.limit)

    def bounded(self, slot: Value, most: int) -> Value:
        got = self.b.load(slot)
        return self.b.select(self.b.icmp("ule", got, Const(most)), got, Const(0))

    def below(self, number: Value) -> Value:
        """A number that is known to be a frame's, as the verifier wants to see it: in the register that is used then."""
        # another comparison than that of the branch, which a pass would take for this one's answer
        return self.b.select(self.b.icmp("ule", number, Const(self.limit - 1)), number, Const(self.limit - 1))

    # -- the thread

    def thread(self) -> Value:
        """The address of the current thread's state; 0 if it has none."""
        code, b = self.code, self.b
        number = b.binary("and", b.helper("get_current_pid_tgid"), Const(0xFFFFFFFF))
        tid, state = code.slot("tid", 0), code.slot("state", 0)
        b.store(tid, number)

        def inner() -> None:
            names = b.alloca(8, "numbers")
            b.store(names, Const(0))
            b.helper("get_ns_current_pid_tgid", self.field("device"), self.field("inode"), names, Const(8))
            b.store(tid, b.resize(b.load(names, I32), tid_type, False))

        tid_type = number.type
        code.when(b.icmp("ne", self.field("inode"), Const(0)), inner)
        key = b.alloca(4, "thread")
        b.store(key, b.resize(number, I32, False))
        before = b.lookup(THREADS, key)

        def check() -> None:
            candidate = b.load(before)
            same = b.icmp("eq", self.read(candidate, "native_thread_id"), b.load(tid))
            code.when(same, lambda: _ignore(b.store(state, candidate)))

        code.when(b.icmp("ne", before, Const(0)), check)

        def find() -> None:
            self.search(tid, number, state)
            found = b.alloca(8, "found")
            b.store(found, b.load(state))
            code.when(b.icmp("ne", b.load(state), Const(0)), lambda: _ignore(b.update(THREADS, key, found)))

        code.when(b.icmp("eq", b.load(state), Const(0)), find)
        return b.load(state)

    def search(self, tid: Value, number: Value, state: Value) -> None:
        """Looks through the threads of all interpreters."""
        code, b = self.code, self.b
        interpreter, current = code.slot("interpreter", 0), code.slot("current", 0)
        index, seen, only = code.slot("index", 0), code.slot("seen", 0), code.slot("only", 0)
        b.store(interpreter, self.read(self.field("runtime"), "interpreters_head"))
        b.store(current, self.read(b.load(interpreter), "threads_head"))
        look, body, end, following, compare, onward, done = (
            b.block(name) for name in ("look", "candidate", "interpreters", "interpreter", "compare", "onward", "searched")
        )
        many = b.block("many")
        b.br(look)
        b.goto(look)
        b.condbr(b.icmp("ult", b.load(index), Const(_LOOKED_AT)), body, many)
        b.goto(many)
        b.count_loss("threads", "ustack(python)")
        b.br(done)
        b.goto(body)
        b.store(index, b.add(b.load(index), Const(1)))
        b.condbr(b.icmp("ne", b.load(current), Const(0)), compare, end)
        b.goto(end)
        b.store(interpreter, self.read(b.load(interpreter), "interpreter_next"))
        b.condbr(b.icmp("ne", b.load(interpreter), Const(0)), following, done)
        b.goto(following)
        b.store(current, self.read(b.load(interpreter), "threads_head"))
        b.br(look)
        b.goto(compare)
        b.store(seen, b.add(b.load(seen), Const(1)))
        b.atomic("add", seen, Const(0))  # how many there were is nothing that the verifier should follow
        b.store(only, b.load(current))
        mine, other = b.block("mine"), b.block("other")
        b.condbr(b.icmp("eq", self.read(b.load(current), "native_thread_id"), b.load(tid)), mine, other)
        b.goto(mine)
        b.store(state, b.load(current))
        b.br(done)
        b.goto(other)
        b.br(onward)
        b.goto(onward)
        b.store(current, self.read(b.load(current), "thread_next"))
        b.br(look)
        b.goto(done)
        # a child of fork() that has not noted its new number yet
        alone = b.binary(
            "and",
            b.resize(b.icmp("eq", b.load(seen), Const(1)), number.type, False),
            b.resize(b.icmp("eq", number, self.pid), number.type, False),
        )
        missing = b.resize(b.icmp("eq", b.load(state), Const(0)), number.type, False)
        code.when(b.icmp("ne", b.binary("and", alone, missing), Const(0)), lambda: _ignore(b.store(state, b.load(only))))

    # -- its frames

    def frames(self, state: Value, count: Value) -> None:
        code, b, limit = self.code, self.b, self.limit
        frame, index = code.slot("frame", 0), code.slot("step", 0)
        b.store(frame, self.read(state, "current_frame"))
        code.when(b.icmp("ne", self.field("indirect"), Const(0)), lambda: _ignore(b.store(frame, self.read(b.load(frame), "cframe_frame"))))
        look, body, inside, taken, done, stop = (b.block(name) for name in ("frames", "frame", "inside", "taken", "ended", "stop"))
        b.br(look)
        b.goto(look)
        # frames of the interpreter's own are few: each stands for a call through C
        b.condbr(b.icmp("ult", b.load(index), Const(limit + limit // 4 + 4)), body, done)
        b.goto(body)
        b.store(index, b.add(b.load(index), Const(1)))
        # which of the two kinds each frame was is nothing that the verifier should follow
        b.atomic("add", count, Const(0))
        number = b.load(count)
        b.condbr(b.icmp("ult", number, Const(limit)), inside, done)
        b.goto(inside)
        at = b.gep(self.to, b.binary("shl", self.below(number), Const(4)))
        here = b.load(frame)
        lost = b.helper("probe_read_user", at, Const(8), b.add(here, self.field("executable")))
        lost = b.binary("or", lost, b.helper("probe_read_user", b.gep(at, Const(8)), Const(8), b.add(here, self.field("instr_ptr"))))
        owner = b.alloca(8, "owner")
        b.store(owner, Const(0))
        lost = b.binary("or", lost, b.helper("probe_read_user", owner, Const(1), b.add(here, self.field("owner"))))
        b.condbr(b.icmp("eq", lost, Const(0)), taken, stop)
        b.goto(taken)
        b.store(frame, self.read(here, "previous"))

        def function() -> None:
            self.tell(b.load(at))
            b.store(count, b.add(number, Const(1)))

        code.when(b.icmp("ult", b.load(owner, I8), Const(_OWNED_BY_C, I8)), function)
        b.condbr(b.icmp("ne", b.load(frame), Const(0)), look, done)
        b.goto(stop)
        b.br(done)
        b.goto(done)
        number = b.load(count)

        def clear() -> None:
            at = b.gep(self.to, b.binary("shl", self.below(number), Const(4)))
            b.store(at, Const(0))
            b.store(at, Const(0), 8)

        code.when(b.icmp("ult", number, Const(limit)), clear)

    def tell(self, address: Value) -> None:
        """Tells the session of a code object that was not met before."""
        code, b = self.code, self.b
        address = b.binary("and", address, Const(~7))  # since 3.14 the lowest bits tell how the reference is counted
        key = b.alloca(16, "code")
        b.store(key, self.pid)
        b.store(key, address, 8)

        def told() -> None:
            b.update(CODES, key, b.bytes(bytes([1, 0, 0, 0, 0, 0, 0, 0])))
            name, path, table = (self.read(address, field) for field in ("qualname", "filename", "linetable"))
            length = self.read(table, "bytes_length")
            copied = b.select(b.icmp("ule", length, Const(_TABLE)), length, Const(0))
            characters = self.field("string_ascii_size")
            numbers = {
                "pid": self.pid, "code": address, "name": name, "path": path, "table": table, "length": length,
                "first": self.read(address, "firstlineno"), "name_state": self.read(name, "string_state"),
                "path_state": self.read(path, "string_state"),
            }  # fmt: skip
            texts = {
                "name_text": Val(T.string(_NAME), b.to_pointer(b.add(name, characters), "user")),
                "path_text": Val(T.string(_PATH), b.to_pointer(b.add(path, characters), "user")),
                "lines": Val(T.buffer(_TABLE), b.to_pointer(b.add(table, self.field("bytes_data")), "user"), limit=copied),
            }
            emit(code, "python_code", (), [*[(field, Val(T.UINT64, value)) for field, value in numbers.items()], *texts.items()])

        code.when(b.icmp("eq", b.lookup(CODES, key), Const(0)), told)


def _ignore(_value: object) -> None:
    pass
