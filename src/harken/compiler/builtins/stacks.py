"""Stack traces: ``kstack`` and ``ustack``, as values like any other.

**How a stack travels.**  The kernel offers two ways.  A *stack table* (BPF_MAP_TYPE_STACK_TRACE) keeps the addresses and gives a number;
it has one place per hash value, so two different stacks that meet there cost one of them (-EEXIST), or worse, with BPF_F_REUSE_STACKID,
the earlier one turns into the later; and nothing says when an entry is no longer needed.  ``bpf_get_stack`` writes the addresses to
memory.  harken uses the second everywhere: a value of type ``kstack`` *is* its addresses, in records, variables, map keys and values.
Thus nothing can collide, there is no second table to overflow, a stack lives exactly as long as the key or value that holds it, and what
is not stored is counted where everything else is: in a full map or a full buffer.

The price is the length of keys: with the default limit of 127 frames the kernel hashes and compares a kilobyte per access, half a
microsecond or so.  Walking the stack costs more (0.6 to 5 µs); who wants it cheaper says how many frames matter: ``@[kstack(16)]`` has
keys of 128 bytes.  Records carry only the frames that there are.  Keys of more than 512 bytes take Linux 5.11.

==========  ========================================================================
type        bytes
==========  ========================================================================
``kstack``  u64 return addresses, innermost first; zero after the last
``ustack``  u64 process id, then the same
with mode   u64 process id, then struct bpf_stack_build_id: s32 status, u8
build_id    build_id[20], u64 offset in the file (status 1) or address (status 2)
python      u64 process id, then two words per frame (see ``python_frames``)
dwarf       u64 process id, struct pt_regs, a copy of the stack (see ``copied_stack``)
mixed       the same with Python's frames
==========  ========================================================================

``bpf_get_stack`` fills the rest of its destination with zeros (__bpf_get_stack in kernel/bpf/stackmap.c), which makes keys canonical.

**What can go wrong**, as the kernel tells it:

- 0 bytes: there is no such stack (a kernel thread has no user stack; in a uprobe there is no kernel stack).  It is empty; nothing was lost.
- -EFAULT: all buffers for walking stacks were in use by probes that this one interrupted.  The stack is empty, and the loss is counted as
  ("stack", "kstack") or ("stack", "ustack").
- A user stack ends early where a page of it is not in memory or the program was built without frame pointers.  The kernel does not tell.
  ``ustack(dwarf)`` needs no frame pointers.
"""

from __future__ import annotations

from ...base.diagnostics import Span
from ..ir import I32, Const, Value
from . import types as T
from .builtin import Argument, Builtin
from .code import Code, Val

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .builtin import Scope

__all__ = ("STACKS", "MODES", "DEFAULT_LIMIT", "LEAST_BYTES", "MOST_BYTES", "frames")

#: How stacks are shown, and found: by frame pointers except in the modes of ``_USER_MODES``.
MODES = ("bpftrace", "perf", "raw", "build_id", "dwarf", "python", "mixed")
_USER_MODES = ("build_id", "dwarf", "python", "mixed")
#: Frames, as many as kernel.perf_event_max_stack allows unless it was raised (PERF_MAX_STACK_DEPTH, include/uapi/linux/perf_event.h).
DEFAULT_LIMIT = 127
_MOST = 1024
#: Bounds of ``user_stack_bytes``: what is copied passes through scratch memory, of which a program has 32 KiB.
LEAST_BYTES, MOST_BYTES = 256, 28672
_USER_STACK, _USER_BUILD_ID = 1 << 8, 1 << 11  # BPF_F_USER_STACK, BPF_F_USER_BUILD_ID
_PID_BYTES = 8
#: Programs of raw tracepoints and trampolines must have written the destination before (bpf_get_stack_proto_raw_tp said that it is read
#: until Linux 6.12); that matters where it may lie on a program's stack.
_INITIALISED, _PROGRAM_STACK = ("raw_tracepoint", "tracing"), 512


def _check(name: str) -> Any:
    def check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
        mode, limit = scope.stack_mode, DEFAULT_LIMIT
        if name == "kstack" and mode in ("dwarf", "python", "mixed"):  # the config's: the kernel has frames of its own kind
            mode = "bpftrace"
        rest = args
        if rest and isinstance(rest[0].value, str):
            mode, rest = rest[0].value, rest[1:]
        elif len(rest) == 2:
            scope.error(f"{name}() expects a stack mode as first argument", rest[0].span, f"the modes are {', '.join(MODES)}")
            rest = rest[1:]
        if rest:
            value = rest[0].value
            if not isinstance(value, int):
                scope.error(f"{name}() expects a constant number of frames", rest[0].span, f"for example {name}(5)")
            elif not 1 <= value <= _MOST:
                scope.error(
                    f"{name}([int limit]): limit shouldn't exceed {_MOST}, {value} given"
                    if value > 0
                    else f"{name}([int limit]): limit must be positive, {value} given",
                    rest[0].span,
                )
            else:
                limit = value
        if name == "kstack" and mode in _USER_MODES:
            hint = "kernel symbols are looked up on this machine: use raw" if mode == "build_id" else "it is for stacks of processes"
            scope.error(f"'{mode}' stack mode can only be used for ustack", span, hint)
            mode = "raw"
        if mode in ("dwarf", "mixed"):
            from . import copied_stack

            return copied_stack.check(scope, mode, limit, span)
        if mode == "python":
            from . import python_frames

            return python_frames.check(scope, mode, limit, span)
        return T.stack(name, mode, limit)

    return check


def _lower(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    if T.is_copied(kind):
        from . import copied_stack

        return copied_stack.lower(code, kind, site)
    if kind.detail[0] == "python":
        from . import python_frames

        return python_frames.lower(code, kind, site)
    user = kind.kind == "ustack"
    flags = (_USER_STACK if user else 0) | (_USER_BUILD_ID if kind.detail[0] == "build_id" else 0)
    head = _PID_BYTES if user else 0
    room = kind.size - head

    def write(to: Value, offset: int) -> Value:
        """Writes the stack; returns the kernel's answer, its bytes or -errno."""
        b = code.b

        def lost() -> None:
            b.count_loss("stack", kind.kind)

        if user:
            b.store(to, b.resize(code.current_pid(), I32, False), offset)
            b.store(to, Const(0, I32), offset + 4)
        got = b.helper("get_stack", site.register(("ctx",)), code.at(to, offset + head), Const(room), Const(flags))
        code.when(b.icmp("slt", got, Const(0)), lost)
        return got

    def fill(to: Value, offset: int) -> None:
        if room <= _PROGRAM_STACK and site.group.context in _INITIALISED:
            code.b.zero(to, room, offset + head)
        write(to, offset)

    def append(to: Value) -> Value:
        got = write(to, 0)
        size = code.b.select(code.b.icmp("ule", got, Const(room)), got, Const(0))
        return code.b.add(size, Const(head)) if head else size

    return Val(kind, fill=fill, append=append)


def frames(code: Code, value: Val) -> Value:
    """How many frames a stack has, as I64."""
    b, kind = code.b, value.type
    head = _PID_BYTES if kind.kind == "ustack" else 0
    width = T.frame_size(kind)
    if value.append is not None:
        size = value.append(b.alloca(kind.size, "stack"))
        return b.binary("udiv", b.sub(size, Const(head)) if head else size, Const(width))
    memory = code.spill(value).ir
    assert memory is not None
    index = code.slot("frames", 0)
    look, body, onward, done = (b.block(name) for name in ("frames", "frame", "next", "counted"))
    b.br(look)
    b.goto(look)
    number = b.load(index)
    b.condbr(b.icmp("ult", number, Const((kind.size - head) // width)), body, done)
    b.goto(body)
    # of a build id the status comes first, which is zero only where there is no frame
    word = b.load(b.gep(memory, b.binary("mul", number, Const(width))), offset=head)
    b.condbr(b.icmp("ne", word, Const(0)), onward, done)
    b.goto(onward)
    b.store(index, b.add(number, Const(1)))
    b.br(look)
    b.goto(done)
    return b.load(index)


STACKS = (
    Builtin(
        "kstack",
        "kstack[([mode,] [limit])]",
        "The kernel stack, with symbols looked up when it is printed; limit is the most frames (127).",
        _check("kstack"),
        _lower,
        0,
        2,
        uses=("kstack",),
        words=MODES,
    ),
    Builtin(
        "ustack",
        "ustack[([mode,] [limit])]",
        "The process's stack, with symbols looked up when it is printed: by frame pointers; mode dwarf: by call frame information; "
        "mode python: the Python functions of CPython processes; mode mixed: both, in the order of their calls.",
        _check("ustack"),
        _lower,
        0,
        2,
        uses=("ustack",),
        words=MODES,
    ),
)
