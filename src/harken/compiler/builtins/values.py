"""Built-ins that are written as bare words: who, where, when, and the arguments of the probe."""

from __future__ import annotations

from ...base.diagnostics import Span, nearest
from ...probes.model import View
from ..ir import Const
from . import types as T
from .builtin import Argument, Builtin
from .code import Code, Val
from .stacks import STACKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .builtin import Scope

__all__ = ("VALUES", "START")

#: The one-entry array that holds the time when tracing began (for ``elapsed``).
START = "harken_start"


def _fixed(kind: T.Type) -> Callable[[Scope, tuple[Argument, ...], Span], T.Type]:
    return lambda scope, args, span: kind


def _helper(name: str) -> Callable[[Code, T.Type, list[Val], tuple[Argument, ...], Any], Val]:
    return lambda code, kind, values, args, site: Val(kind, code.b.helper(name))


def _pid(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    return Val(kind, code.current_pid())


def _low32(name: str) -> Callable[[Code, T.Type, list[Val], tuple[Argument, ...], Any], Val]:
    return lambda code, kind, values, args, site: Val(kind, code.b.binary("and", code.b.helper(name), Const(0xFFFFFFFF)))


def _gid(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    return Val(kind, code.b.binary("lshr", code.b.helper("get_current_uid_gid"), Const(32)))


def _comm(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    def fill(to: Any, offset: int) -> None:
        # some kernels (6.1) leave what follows the NUL as it was; keys and comparisons take all 16 bytes
        code.b.zero(to, 16, offset)
        code.b.helper("get_current_comm", code.at(to, offset), Const(16))

    return Val(kind, fill=fill, padded=True)


def _ncpus(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    return code.number(code.environment.cpus, kind)


def _elapsed_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    scope.use("start")
    return T.UINT64


def _elapsed(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    b = code.b
    key = b.alloca(4, "zero")
    b.zero(key, 4)
    where = b.lookup(START, key)
    started = code.choose(b.icmp("ne", where, Const(0)), lambda: b.load(where), lambda: Const(0))
    return Val(kind, b.sub(b.helper("ktime_get_boot_ns"), started))


def _curtask_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    btf = scope.catalogue.btf
    task = btf.struct("task_struct") if btf is not None else None
    return T.pointer(task, "kernel") if task is not None else T.UINT64


def _curtask(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    return Val(kind, code.b.helper("get_current_task"))


def _text(name: str) -> Callable[[Code, T.Type, list[Val], tuple[Argument, ...], Any], Val]:
    """Where probes with different texts share a program, the kernel tells it by the cookie which one was hit."""

    def lower(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
        texts = _encoded(site.texts(name))
        if len(set(texts)) == 1:
            return Val(kind, literal=texts[0], padded=True)
        b = code.b
        table = b.bytes(b"".join([text.ljust(kind.size, b"\0") for text in texts]))
        cookie = b.helper("get_attach_cookie", site.register(("ctx",)))
        index = b.select(b.icmp("ult", cookie, Const(len(texts))), cookie, Const(0))
        return Val(kind, b.gep(table, b.binary("mul", index, Const(kind.size))), padded=True)

    return lower


def _encoded(texts: tuple[str, ...]) -> list[bytes]:
    return [text.encode("utf-8", "surrogateescape") for text in texts]


def _text_check(name: str) -> Callable[[Scope, tuple[Argument, ...], Span], T.Type]:
    def check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
        texts = _encoded(scope.texts(name))
        size = max(map(len, texts)) + 1
        return T.string(size if len(set(texts)) == 1 else (size + 7) & ~7)

    return check


def _func_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    if not scope.view.function:
        if scope.kind in ("uprobe", "uretprobe"):
            scope.error("no function is known at this address, which func could name", span, "probe prints the address as it was given")
        else:
            scope.error(
                f"The func builtin can not be used with '{scope.kind}' probes",
                span,
                "it names the traced function of kprobe, fentry and uprobe probes",
            )
    return _text_check("func")(scope, args, span)


def _retval_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    returns = scope.view.returns
    if returns is None:
        hint = "it is there in kretprobe, fexit and uretprobe probes"
        if scope.kind in ("kprobe", "uprobe", "fentry"):
            other = {"kprobe": "kretprobe", "uprobe": "uretprobe", "fentry": "fexit"}[scope.kind]
            hint = f"use {other} to see the return value"
        scope.error(f"The retval builtin can not be used with '{scope.kind}' probes", span, hint)
        return T.INT64
    kind = T.from_ctype(returns, scope.view.space)
    return kind if T.is_scalar(kind) else T.UINT64


def _retval(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    raw = Val(T.UINT64, site.register(("retval",)))
    return Val(kind, code.convert(raw, kind))


def positional(number: int) -> Builtin:
    """``arg0``, ``arg1``, ..."""

    def check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
        view: View = scope.view
        if not view.positional:
            hint = "name the fields instead: args.NAME" if view.args else ""
            if view.args:
                hint += f" ({', '.join(argument.name for argument in view.args[:8])})"
            scope.error(f"The arg{number} builtin can not be used with '{scope.kind}' probes", span, hint)
        elif number >= view.positional:
            scope.error(f"arg{number} is out of range: there are {view.positional} (arg0 to arg{view.positional - 1})", span)
        elif number < len(view.operands) and view.operands[number].obstacle:
            scope.error(f"arg{number} cannot be read: {view.operands[number].obstacle}", span)
        return T.INT64

    def lower(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
        return Val(kind, site.register(("arg", number)))

    return Builtin(f"arg{number}", f"arg{number}", f"The probe's argument number {number}, as int64.", check, lower, uses=("args",))


def _never(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    raise AssertionError("checked before, or a constant of the language")


def _absent(name: str, doc: str) -> Builtin:
    def check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
        scope.error(f"{name} is not yet available", span, doc)
        return T.UINT64

    return Builtin(name, name, doc, check, _never, 0, 3)


_ROWS = (
    Builtin("pid", "pid", "Process id.", _fixed(T.UINT32), _pid),
    Builtin("tid", "tid", "Thread id.", _fixed(T.UINT32), _low32("get_current_pid_tgid")),
    Builtin("uid", "uid", "User id.", _fixed(T.UINT32), _low32("get_current_uid_gid")),
    Builtin("gid", "gid", "Group id.", _fixed(T.UINT32), _gid),
    Builtin("comm", "comm", "Name of the current thread, at most 15 bytes.", _fixed(T.string(16)), _comm),
    Builtin("cpu", "cpu", "Number of the CPU that the probe runs on.", _fixed(T.UINT32), _low32("get_smp_processor_id")),
    Builtin("numaid", "numaid", "NUMA node of that CPU.", _fixed(T.UINT32), _low32("get_numa_node_id")),
    Builtin("ncpus", "ncpus", "Number of possible CPUs.", _fixed(T.UINT32), _ncpus),
    Builtin("elapsed", "elapsed", "Nanoseconds since tracing began.", _elapsed_check, _elapsed),
    Builtin("rand", "rand", "A random uint32.", _fixed(T.UINT32), _low32("get_prandom_u32")),
    Builtin("cgroup", "cgroup", "Id of the current process's cgroup (version 2).", _fixed(T.UINT64), _helper("get_current_cgroup_id")),
    Builtin("jiffies", "jiffies", "The kernel's tick counter.", _fixed(T.UINT64), _helper("jiffies64")),
    Builtin("curtask", "curtask", "The current struct task_struct *.", _curtask_check, _curtask),
    Builtin("func", "func", "Name of the traced function.", _func_check, _text("func"), uses=("func",)),
    Builtin("probe", "probe", "Full name of the probe.", _text_check("probe"), _text("probe"), uses=("probe",)),
    Builtin("probetype", "probetype", "Kind of the probe.", _text_check("probetype"), _text("probetype")),
    Builtin("retval", "retval", "Return value of the traced function.", _retval_check, _retval, uses=("retval",)),
    *STACKS,
    _absent("username", "print uid instead"),
    Builtin("cpid", "cpid", "Process id of the command that -c runs; known at compile time.", _fixed(T.UINT32), _never),
    Builtin("has_cpid", "has_cpid", "Whether -c runs a command; known at compile time.", _fixed(T.BOOL), _never),
    _absent("ctx", "use args or arg0 ... instead"),
    _absent("usermode", "it needs the registers of perf events"),
    _absent("pcomm", "use ((struct task_struct *)curtask)->real_parent->comm"),
    _absent("ppid", "use ((struct task_struct *)curtask)->real_parent->tgid"),
)

VALUES: dict[str, Builtin] = {row.name: row for row in _ROWS}


def find(name: str) -> Builtin | None:
    """The built-in called ``name``; ``argN`` for any N."""
    if name.startswith("__builtin_"):
        name = name[10:]
    row = VALUES.get(name)
    if row is None and name.startswith("arg") and name[3:].isdecimal() and len(name) < 7:
        row = positional(int(name[3:]))
    return row


def near(name: str) -> list[str]:
    """Built-ins that look like ``name``."""
    return nearest(name, [*VALUES, "args", "nsecs", "arg0"])
