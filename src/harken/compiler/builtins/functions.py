"""Built-ins that are called and give a value: strings, networks, time; those of ``addresses`` and ``stacks``."""

from __future__ import annotations

from ...base.diagnostics import Span
from ..ir import I8, I32, I64, Const, Value
from . import types as T
from .addresses import ADDRESSES, wants_address
from .builtin import Argument, Builtin
from .code import Code, Val
from .comparison import strings_equal
from .stacks import STACKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .builtin import Scope

__all__ = ("FUNCTIONS",)

_AF_INET, _AF_INET6 = 2, 10


# -- strings


def _str_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    if not args:
        return T.string(scope.max_strlen)
    wants_address(scope, "str", args[0])
    longest = min(args[0].type.size, scope.max_strlen) if args[0].type.kind == "string" else scope.max_strlen
    if len(args) > 1:
        if not T.is_integer(args[1].type):
            scope.error(f"str() expects an integer as second argument ({args[1].type} provided)", args[1].span)
        elif isinstance(args[1].value, int):
            if args[1].value < 0:
                scope.error("str() expects a length that is not negative", args[1].span)
            elif args[1].value + 1 > scope.max_strlen:
                scope.warn(
                    f"length param ({args[1].value}) is too long and will be shortened to {scope.max_strlen - 1} bytes",
                    args[1].span,
                    "see the max_strlen option",
                )
            return T.string(min(max(args[1].value, 0) + 1, longest))
    return T.string(longest)


def _str(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    source = values[0]
    fixed = len(values) == 1 or isinstance(args[1].value, int)
    if source.type.kind == "string" and fixed:
        if source.literal is not None:
            return Val(kind, literal=source.literal[: kind.size - 1], padded=True)
        if kind.size >= source.type.size:
            return source
    limit: Value | None = None
    if not fixed:
        # one more for the NUL; never more than the destination, whatever the program passes
        b = code.b
        wanted = b.add(code.i64(values[1]), Const(1))
        limit = b.select(b.icmp("ult", wanted, Const(kind.size)), wanted, Const(kind.size))
    return Val(kind, _address(code, source, site), limit=limit)


def _address(code: Code, value: Val, site: Any) -> Value:
    """The address that a value is, or that it is stored at.

    An address that is not certainly the process's may be either: ``const char *`` arguments of kernel functions are often user
    addresses without saying so.
    """
    if value.type.kind in ("array", "string"):
        memory = code.spill(value) if value.ir is None else value
        assert memory.ir is not None
        return memory.ir
    space = "user" if value.type.kind == "ptr" and value.type.space == "user" else site.default_space
    return code.pointer(value, space)


def _strncmp_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    for argument in args[:2]:
        if argument.type.kind != "string":
            scope.error(f"strncmp() expects strings ({argument.type} provided)", argument.span)
    if not isinstance(args[2].value, int) or args[2].value < 0:
        scope.error("strncmp() expects a literal length as third argument", args[2].span)
    elif args[2].value > scope.max_strlen:
        scope.error(f"strncmp() length {args[2].value} is longer than the longest string ({scope.max_strlen})", args[2].span)
    return T.INT64


def _strncmp(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    count = args[2].value
    assert isinstance(count, int)
    equal = strings_equal(code, values[0], values[1], count)
    return Val(kind, code.b.select(equal, Const(0), Const(1)))


def _strlen_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    if args[0].type.kind != "string":
        scope.error(f"strlen() expects a string ({args[0].type} provided)", args[0].span)
    return T.UINT64


def _strlen(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    value = values[0]
    if value.literal is not None:
        return code.number(len(value.literal), kind)
    if value.fill is not None:
        value = code.spill(value)
    assert value.ir is not None
    b = code.b
    scratch = b.alloca((value.type.size + 7) // 8 * 8, "text")
    got = code.read_str(scratch, value.ir, value.type.size, value.limit)
    return Val(kind, code.text_length(got))


def _strcontains_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    for argument in args:
        if argument.type.kind != "string":
            scope.error(f"strcontains() expects strings ({argument.type} provided)", argument.span)
    if not isinstance(args[1].value, str):
        scope.error("strcontains() expects a literal as second argument", args[1].span)
    elif len(args[1].value.encode("utf-8", "surrogateescape")) > 64:
        scope.error("strcontains() can look for at most 64 bytes", args[1].span)
    return T.BOOL


def _strcontains(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    """Every start in turn; the inner comparison is against constants."""
    text, b = values[1].literal or b"", code.b
    haystack = values[0]
    if haystack.literal is not None:
        return code.number(int(text in haystack.literal), kind)
    if not text:
        return code.number(1, kind)
    size = (haystack.type.size + len(text) + 7) // 8 * 8
    where = b.alloca(size, "text")
    b.zero(where, size)
    code.store_string(haystack, haystack.type.size, where, 0, False)
    found, index = code.slot("found", 0), code.slot("index", 0)
    head, body, onward, done = (b.block(name) for name in ("search", "try", "next", "searched"))
    b.br(head)
    b.goto(head)
    i = b.load(index)
    b.condbr(b.icmp("ult", i, Const(haystack.type.size)), body, done)
    b.goto(body)
    start = b.gep(where, i)
    difference: Value = Const(0)
    for position, byte in enumerate(text):
        got = b.resize(b.load(start, I8, position), I64, False)
        difference = b.binary("or", difference, b.binary("xor", got, Const(byte)))
    hit = b.block("hit")
    b.condbr(b.icmp("eq", difference, Const(0)), hit, onward)
    b.goto(hit)
    b.store(found, Const(1))
    b.br(done)
    b.goto(onward)
    b.store(index, b.add(i, Const(1)))
    b.br(head)
    b.goto(done)
    return Val(kind, b.load(found))


def _buf_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    wants_address(scope, "buf", args[0])
    if len(args) == 1:
        if args[0].type.kind not in ("array", "string"):
            scope.error("buf() expects a length argument for a pointer or integer", span, "buf(ptr, length)")
        return T.buffer(min(max(1, args[0].type.size), scope.max_strlen))
    length = args[1].value
    if not T.is_integer(args[1].type):
        scope.error(f"buf() expects an integer as second argument ({args[1].type} provided)", args[1].span)
    if isinstance(length, int):
        if length < 1:
            scope.error("buf() expects a positive length", args[1].span)
        return T.buffer(min(max(1, length), scope.max_strlen))
    return T.buffer(scope.max_strlen)


def _buf(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    b = code.b
    source = values[0]
    address = _address(code, source, site)
    if len(values) == 1 or isinstance(args[1].value, int):

        def whole(to: Value, offset: int) -> None:
            if address.space == "any":
                code.read_bytes(code.at(to, offset), address, Const(kind.size))
            else:
                b.copy(to, address, kind.size, offset)

        return Val(kind, fill=whole)
    wanted = code.i64(values[1])

    size = b.select(b.icmp("ult", wanted, Const(kind.size)), wanted, Const(kind.size))

    def part(to: Value, offset: int) -> None:
        b.zero(to, kind.size, offset)
        code.read_bytes(code.at(to, offset), address, size)

    return Val(kind, address, fill=part, limit=size)


# -- network


def _ntop_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    address = args[-1]
    if address.type.kind not in ("int", "array", "string") or (address.type.kind == "array" and address.type.size not in (4, 16)):
        scope.error(f"ntop() expects an integer or an array of 4 or 16 bytes ({address.type} provided)", address.span)
    if len(args) == 2 and not T.is_integer(args[0].type):
        scope.error(f"ntop() expects an integer as address family ({args[0].type} provided)", args[0].span)
    return T.INET


def _ntop(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    b, address = code.b, values[-1]
    v6 = address.type.kind in ("array", "string") and address.type.size == 16
    family = code.i64(values[0]) if len(values) == 2 else Const(_AF_INET6 if v6 else _AF_INET)

    def fill(to: Value, offset: int) -> None:
        b.store(to, b.resize(family, I32, False), offset)
        if T.is_scalar(address.type):
            b.store(to, b.resize(code.i64(address), I32, False), offset + 4)
            b.zero(to, 12, offset + 8)
            return
        size = min(16, address.type.size)
        assert address.ir is not None
        b.copy(to, address.ir, size, offset + 4)
        if size < 16:
            b.zero(to, 16 - size, offset + 4 + size)

    return Val(kind, fill=fill)


def _macaddr_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    if args[0].type.kind not in ("array", "string", "ptr") or (args[0].type.kind != "ptr" and args[0].type.size != 6):
        scope.error(f"macaddr() only supports an array of 6 bytes ({args[0].type} provided)", args[0].span)
    return T.MAC


def _macaddr(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    address = _address(code, values[0], site)

    def fill(to: Value, offset: int) -> None:
        code.b.copy(to, address, 6, offset)

    return Val(kind, fill=fill)


def _bswap_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    if args[0].type.kind != "int":
        scope.error(f"bswap() only supports integer arguments ({args[0].type} provided)", args[0].span)
        return T.UINT64
    return T.integer(args[0].type.size, False)


def _bswap(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    value = code.i64(values[0])
    if kind.size == 1:
        return Val(kind, code.convert(values[0], kind))
    return Val(kind, code.b.binary("lshr", code.b.unary("bswap", value), Const(64 - kind.size * 8)))


# -- time


def _nsecs_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    return T.UINT64


def _strftime_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    if not isinstance(args[0].value, str):
        scope.error("strftime() expects a string literal as its format", args[0].span)
    if not T.is_integer(args[1].type):
        scope.error(f"strftime() expects an integer as its time ({args[1].type} provided)", args[1].span)
    return T.Type("timestamp", 8, detail=str(args[0].value))


def _strftime(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    return Val(kind, code.i64(values[1]))


# -- what changes the system


def _unsafe_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    return T.NONE


def _signal_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    value = args[0].value
    if isinstance(value, str):
        if signal_number(value) is None:
            scope.error(f"{value} is not a valid signal", args[0].span)
    elif not T.is_integer(args[0].type):
        scope.error(f"signal() expects an integer or a signal's name ({args[0].type} provided)", args[0].span)
    elif isinstance(value, int) and not 0 < value < 65:
        scope.error(f"{value} is not a valid signal, allowed range: [1,64]", args[0].span)
    return T.NONE


def signal_number(name: str) -> int | None:
    """``SIGTERM``, ``TERM`` and ``sigterm`` are 15."""
    import signal

    name = name.upper()
    found = getattr(signal, name if name.startswith("SIG") else "SIG" + name, None)
    return int(found) if found is not None else None


def _signal(name: str) -> Any:
    def lower(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
        value = args[0].value
        number = Const(signal_number(value) or 0) if isinstance(value, str) else code.i64(values[0])
        code.b.helper(name, number)
        return Val(kind)

    return lower


def _override(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    code.b.helper("override_return", code.b.ctx(), code.i64(values[0]))
    return Val(kind)


def _never(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    raise AssertionError("checked before")


def _absent(name: str, hint: str) -> Builtin:
    def check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
        scope.error(f"{name}() is not yet available", span, hint)
        return T.UINT64

    return Builtin(name, f"{name}(...)", hint, check, _never, 0, -1)


def _nsecs(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    return Val(kind, code.b.helper("ktime_get_boot_ns"))


def _space_check(space: str) -> Any:
    def check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
        wants_address(scope, "kptr" if space == "kernel" else "uptr", args[0])
        return args[0].type.replace(space=space) if args[0].type.kind == "ptr" else T.VOIDPTR.replace(space=space)

    return check


def _retype(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    return Val(kind, code.i64(values[0]))


_ROWS = (
    Builtin("str", "str(pointer[, length])", "The NUL-terminated string at an address.", _str_check, _str, 1, 2),
    Builtin("strncmp", "strncmp(a, b, n)", "0 if the first n bytes of two strings are equal.", _strncmp_check, _strncmp, 3, 3),
    Builtin("strlen", "strlen(s)", "Length of a string in bytes.", _strlen_check, _strlen, 1, 1),
    Builtin("strcontains", "strcontains(s, literal)", "Whether a string contains another.", _strcontains_check, _strcontains, 2, 2),
    Builtin("buf", "buf(pointer[, length])", "Raw bytes at an address.", _buf_check, _buf, 1, 2),
    Builtin("ntop", "ntop([family,] address)", "An IPv4 or IPv6 address as text.", _ntop_check, _ntop, 1, 2),
    Builtin("macaddr", "macaddr(bytes)", "A MAC address as text.", _macaddr_check, _macaddr, 1, 1),
    Builtin("bswap", "bswap(n)", "The integer's bytes in reverse order.", _bswap_check, _bswap, 1, 1),
    Builtin(
        "strftime", "strftime(format, ns)", "A time since boot as text, formatted when it is printed.", _strftime_check, _strftime, 2, 2
    ),
    Builtin("kptr", "kptr(p)", "Marks an address as the kernel's.", _space_check("kernel"), _retype, 1, 1),
    Builtin("uptr", "uptr(p)", "Marks an address as the process's.", _space_check("user"), _retype, 1, 1),
    Builtin("signal", "signal(n)", "Sends a signal to the current process.", _signal_check, _signal("send_signal"), 1, 1, unsafe=True),
    Builtin(
        "signal_thread",
        "signal_thread(n)",
        "Sends a signal to the current thread.",
        _signal_check,
        _signal("send_signal_thread"),
        1,
        1,
        unsafe=True,
    ),
    Builtin("override", "override(value)", "Makes the probed function return a value.", _unsafe_check, _override, 1, 1, unsafe=True),
    *ADDRESSES,
    *STACKS,
    _absent("path", "read the dentry's name through args or curtask instead"),
    _absent("cgroupid", "compare with the number that 'stat -c %i' prints for the cgroup's folder"),
    _absent("cgroup_path", "print cgroup instead"),
    _absent("strerror", "print the number instead"),
    _absent("skboutput", "it comes with packet capture"),
    _absent("unwatch", "it comes with watchpoints"),
    _absent("tseries", "it comes with the whole language"),
    _absent("percpu_kaddr", "it comes with the whole language"),
    _absent("socket_cookie", "it comes with the whole language"),
    _absent("pton", "it comes with the whole language"),
    _absent("debugf", "use printf"),
)

FUNCTIONS: dict[str, Builtin] = {row.name: row for row in _ROWS}
NSECS = Builtin("nsecs", "nsecs[(clock)]", "Nanoseconds since boot.", _nsecs_check, _nsecs, 0, 1)
