"""The walk of a program through CPython's threads and frames (``python_frames``)."""

from __future__ import annotations

from ..ir import I8, I32, I64, PTR, Const, Function, Param, Value
from ..passes.legalise import RECORD
from . import types as T
from .code import Code, Val
from .events import emit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("FIELDS", "PROCESSES", "THREADS", "CODES", "Walk")

PROCESSES, THREADS, CODES = "harken_python", "harken_py_tids", "harken_py_code"
#: What the session tells of a process, u64 each: addresses, then offsets as ``symbols.python_offsets`` names them.  ``indirect``: the
#: thread's state points to a struct that points to the frame (3.11, 3.12).  ``is_entry``: 0 since 3.12.  ``device`` and ``inode`` of its
#: PID namespace; 0: ours.
FIELDS = (
    "runtime", "interpreters_head", "interpreter_next", "threads_head", "thread_next", "native_thread_id", "current_frame", "indirect",
    "cframe_frame", "previous", "executable", "instr_ptr", "owner", "is_entry", "device", "inode", "qualname", "filename", "linetable",
    "firstlineno", "string_state", "string_ascii_size", "bytes_length", "bytes_data",
)  # fmt: skip
_FRAME = 16
#: Thread states that are looked at to find one.
_LOOKED_AT = 1024
#: What the loops share: words by name, of which several lie in the same place, one for the search of the thread and one for the walk after
#: it.  ``control``: in 3.11 the struct on the C stack that the frames belong to; ``pending``: one that is due as a mark.
_SHARED = {
    "pid": 0, "info": 1, "frames": 2, "count": 3, "state": 4, "tid": 5, "interpreter": 6, "current": 7, "seen": 8, "only": 9,
    "frame": 5, "control": 6, "pending": 7,
}  # fmt: skip
_WORDS = 10
#: Those whose values the verifier should not follow from round to round: it forgets them at an atomic operation.  That is no addition of
#: zero, which goes where loops are written out for kernels without bpf_loop (``passes.inline``): here it is wanted there, too.
_HIDDEN = ("count", "seen", "pending")
#: Bytes of names, of paths and of line tables that are taken along; what is longer is read by the session.
_NAME, _PATH, _TABLE = 256, 512, 1024
#: Frames with this owner or a higher one are the interpreter's own (FRAME_OWNED_BY_CSTACK; none in 3.11).
_OWNED_BY_C = 3
_NOEXIST = 1


class Walk:
    """Builds one walk through the frames of the current thread.

    Args:
        pid: the process.
        limit: pairs of words that are written at most.
        marked: with marks (``python_frames.write_marked``).

    Attributes:
        frames: where the pairs are.

    Both loops, through the threads and through the frames, are functions of their own (``_Round``), which the kernel calls (bpf_loop):
    its verifier looks at such a function once and not in each round.  What they share lies in ``shared``.
    """

    def __init__(self, code: Code, pid: Value, limit: int, marked: bool = False) -> None:
        self.code, self.b, self.pid, self.limit, self.marked = code, code.b, pid, limit, marked
        self.word = self.b.alloca(8, "word")
        self.frames: Value
        self.info: Value
        self.shared: Value

    def field(self, name: str) -> Value:
        return self.b.load(self.info, offset=8 * FIELDS.index(name))

    def read(self, address: Value, name: str = "") -> Value:
        """The word at an address plus the offset called ``name``; 0 if it cannot be read (the kernel clears the destination)."""
        self.b.helper("probe_read_user", self.word, Const(8), self.b.add(address, self.field(name)) if name else address)
        return self.b.load(self.word)

    def get(self, name: str) -> Value:
        """A shared word."""
        return self.b.load(self.shared, offset=8 * _SHARED[name])

    def set(self, name: str, value: Value) -> None:
        self.b.store(self.shared, value, 8 * _SHARED[name])
        if name in _HIDDEN:
            self.b.atomic("or", self.shared, Const(0), 8 * _SHARED[name])

    def clear(self, *names: str) -> None:
        for name in names:
            self.set(name, Const(0))

    def each(self, name: str, most: int, body: Callable[[_Round], None]) -> Value:
        """A loop of at most so many rounds; returns their number.

        Args:
            name: of the function that is one of them, which all walks share that give it the same name.
            body: builds it, and ends it by ``again`` or ``stop``.
        """
        code = self.code
        if name not in code.module.functions:
            params = (Param(0, "index", I64), Param(1, "shared", PTR, "stack"))
            function = code.module.add(Function(name, params, I64, "callback", code.function.span))
            body(_Round(Code(code.module, function, code.events, code.environment), params[1], self))
        return self.b.insert("loop", (Const(most), self.shared), I64, name)

    def run(self) -> Value:
        """Writes the frames; returns their number, bounded for the verifier."""
        code, b = self.code, self.b
        # a probe's walks use the same memory one after another
        self.shared = code.kept("python", lambda: b.alloca(8 * _WORDS, "python"))
        self.frames = code.kept(("python", self.limit), lambda: b.alloca(_FRAME * self.limit, RECORD))
        b.zero(self.frames, _FRAME * self.limit)
        self.clear("count", "state", "tid", "interpreter", "current", "seen", "only")
        self.set("pid", self.pid)
        self.set("frames", self.frames)
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
        self.set("info", self.info)
        b.condbr(b.icmp("ne", self.field("runtime"), Const(0)), walk, done)
        b.goto(walk)
        self.thread()
        self.take_frames()
        b.br(done)
        b.goto(done)
        got = self.get("count")
        return b.select(b.icmp("ule", got, Const(self.limit)), got, Const(0))

    # -- the thread

    def thread(self) -> None:
        """Puts the address of the current thread's state into ``state``; 0 if it has none."""
        code, b = self.code, self.b
        number = b.binary("and", b.helper("get_current_pid_tgid"), Const(0xFFFFFFFF))
        self.set("tid", number)

        def inner() -> None:
            names = b.alloca(8, "numbers")
            b.store(names, Const(0))
            b.helper("get_ns_current_pid_tgid", self.field("device"), self.field("inode"), names, Const(8))
            self.set("tid", b.resize(b.load(names, I32), number.type, False))

        code.when(b.icmp("ne", self.field("inode"), Const(0)), inner)
        key = b.alloca(4, "thread")
        b.store(key, b.resize(number, I32, False))
        before = b.lookup(THREADS, key)

        def check() -> None:
            candidate = b.load(before)
            same = b.icmp("eq", self.read(candidate, "native_thread_id"), self.get("tid"))
            code.when(same, lambda: self.set("state", candidate))

        code.when(b.icmp("ne", before, Const(0)), check)

        def find() -> None:
            self.search(number)
            found = b.alloca(8, "found")
            b.store(found, self.get("state"))
            code.when(b.icmp("ne", self.get("state"), Const(0)), lambda: _ignore(b.update(THREADS, key, found)))

        code.when(b.icmp("eq", self.get("state"), Const(0)), find)

    def search(self, number: Value) -> None:
        """Looks through the threads of all interpreters."""
        code, b = self.code, self.b
        interpreter = self.read(self.field("runtime"), "interpreters_head")
        self.set("interpreter", interpreter)
        self.set("current", self.read(interpreter, "threads_head"))
        rounds = self.each("python_threads", _LOOKED_AT, _Round.look_at_thread)
        code.when(b.icmp("uge", rounds, Const(_LOOKED_AT)), lambda: _ignore(b.count_loss("threads", "ustack(python)")))
        # a child of fork() that has not noted its new number yet
        alone = b.binary(
            "and",
            b.resize(b.icmp("eq", self.get("seen"), Const(1)), number.type, False),
            b.resize(b.icmp("eq", number, self.pid), number.type, False),
        )
        missing = b.resize(b.icmp("eq", self.get("state"), Const(0)), number.type, False)
        code.when(b.icmp("ne", b.binary("and", alone, missing), Const(0)), lambda: self.set("state", self.get("only")))

    # -- its frames

    def take_frames(self) -> None:
        code, b = self.code, self.b
        self.clear("control", "pending")
        self.set("frame", self.read(self.get("state"), "current_frame"))

        def follow() -> None:
            self.set("control", self.get("frame"))
            self.set("frame", self.read(self.get("frame"), "cframe_frame"))

        code.when(b.icmp("ne", self.field("indirect"), Const(0)), follow)
        # frames of the interpreter's own are few: each stands for a call through C
        self.each(f"python_frames_{self.limit}{'_marked' if self.marked else ''}", self.limit + self.limit // 4 + 4, _Round.take_frame)
        # one that could not be read may have left something
        number = self.get("count")
        code.when(b.icmp("ult", number, Const(self.limit)), lambda: self.put(self.place(number), Const(0), Const(0)))

    def place(self, number: Value) -> Value:
        """Where a frame is written."""
        # bounded where it is used, by another comparison than that of a branch, which a pass would take for this one's answer
        below = self.b.select(self.b.icmp("ule", number, Const(self.limit - 1)), number, Const(self.limit - 1))
        return self.b.gep(self.frames, self.b.binary("shl", below, Const(4)))

    def put(self, at: Value, executable: Value, instruction: Value) -> None:
        self.b.store(at, executable)
        self.b.store(at, instruction, 8)


class _Round(Walk):
    """Builds one round of a loop."""

    def __init__(self, code: Code, shared: Value, walk: Walk) -> None:
        super().__init__(code, walk.pid, walk.limit, walk.marked)
        self.shared = shared
        self.pid = self.get("pid")
        self.info = self.b.load(shared, PTR, 8 * _SHARED["info"], space="map_value")

    def again(self) -> None:
        self.b.ret(Const(0))

    def stop(self) -> None:
        self.b.ret(Const(1))

    def look_at_thread(self) -> None:
        """Whether ``current`` is the thread; else the next one, if need be of the next interpreter."""
        b = self.b
        end, following, gone, compare, mine, other = (
            b.block(name) for name in ("interpreters", "interpreter", "searched", "compare", "mine", "other")
        )
        current = self.get("current")
        b.condbr(b.icmp("ne", current, Const(0)), compare, end)
        b.goto(end)
        interpreter = self.read(self.get("interpreter"), "interpreter_next")
        self.set("interpreter", interpreter)
        b.condbr(b.icmp("ne", interpreter, Const(0)), following, gone)
        b.goto(following)
        self.set("current", self.read(interpreter, "threads_head"))
        self.again()
        b.goto(gone)
        self.stop()
        b.goto(compare)
        self.set("seen", b.add(self.get("seen"), Const(1)))
        self.set("only", current)
        b.condbr(b.icmp("eq", self.read(current, "native_thread_id"), self.get("tid")), mine, other)
        b.goto(mine)
        self.set("state", current)
        self.stop()
        b.goto(other)
        self.set("current", self.read(current, "thread_next"))
        self.again()

    def take_frame(self) -> None:
        """Writes ``frame``, or the mark that is due, and goes to the one before."""
        code, b = self.code, self.b
        inside, plain, taken, onward, more, done = (b.block(name) for name in ("inside", "plain", "taken", "onward", "more", "ended"))
        number = self.get("count")
        b.condbr(b.icmp("ult", number, Const(self.limit)), inside, done)
        b.goto(inside)
        self.frames = b.load(self.shared, PTR, 8 * _SHARED["frames"], space="stack")
        at = self.place(number)
        if self.marked:
            mark = b.block("mark")
            pending = self.get("pending")
            b.condbr(b.icmp("ne", pending, Const(0)), mark, plain)
            b.goto(mark)
            self.put(at, Const(0), pending)
            self.set("pending", Const(0))
            # _PyCFrame.previous follows current_frame
            self.set("control", self.read(b.add(self.get("control"), Const(8)), "cframe_frame"))
            self.set("count", b.add(number, Const(1)))
            b.br(onward)
        else:
            b.br(plain)
        b.goto(plain)
        here = self.get("frame")
        lost = b.helper("probe_read_user", at, Const(8), b.add(here, self.field("executable")))
        lost = b.binary("or", lost, b.helper("probe_read_user", b.gep(at, Const(8)), Const(8), b.add(here, self.field("instr_ptr"))))
        owner = b.alloca(8, "owner")
        b.store(owner, Const(0))
        lost = b.binary("or", lost, b.helper("probe_read_user", owner, Const(1), b.add(here, self.field("owner"))))
        b.condbr(b.icmp("eq", lost, Const(0)), taken, done)
        b.goto(taken)
        self.set("frame", self.read(here, "previous"))

        def function() -> None:
            self.tell(b.load(at))
            if self.marked:
                code.when(b.icmp("ne", self.field("is_entry"), Const(0)), entry)
            self.set("count", b.add(number, Const(1)))

        def entry() -> None:
            is_entry = b.alloca(8, "is_entry")
            b.store(is_entry, Const(0))
            b.helper("probe_read_user", is_entry, Const(1), b.add(here, self.field("is_entry")))
            code.when(b.icmp("ne", b.load(is_entry), Const(0)), lambda: self.set("pending", self.get("control")))

        def own() -> None:
            self.put(at, Const(0), here)
            self.set("count", b.add(number, Const(1)))

        code.when(b.icmp("ult", b.load(owner, I8), Const(_OWNED_BY_C, I8)), function, own if self.marked else None)
        b.br(onward)
        b.goto(onward)
        b.condbr(b.icmp("ne", b.binary("or", self.get("frame"), self.get("pending")), Const(0)), more, done)
        b.goto(more)
        self.again()
        b.goto(done)
        self.stop()

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
