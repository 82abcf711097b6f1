"""Built-ins about addresses: symbol to address when the program is compiled, address to symbol when it is printed; registers.

``ksym`` and ``usym`` travel as the address (``usym`` with the process id) and are looked up by the session.  ``kaddr`` is a constant of the
program.  ``uaddr`` is one too where the binary is loaded at a fixed address.  Shared libraries and position-independent programs lie
elsewhere in every process: there the address is the probed instruction's own (the program counter in a uprobe or USDT probe, as
handle_swbp in kernel/events/uprobes.c sets it) plus the distance between the two in the file.  When a function returns, its first
instruction is what counts: bpf_get_func_ip tells it to programs of uprobe.multi links (Linux 6.6); for others a second program notes it per
process when the function is entered.
"""

from __future__ import annotations

from ...base.ctype import Int, Void
from ...base.diagnostics import Span, nearest
from ...base.errors import HarkenError
from ..ir import I32, Const, Value
from . import types as T
from .builtin import Argument, Builtin
from .code import Code, Val

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .builtin import Scope

__all__ = ("ADDRESSES", "wants_address")

_ET_EXEC = 2
_USER_PROBES = ("uprobe", "uretprobe", "usdt")
_WIDTHS = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64"}


def wants_address(scope: Scope, name: str, argument: Argument) -> None:
    """Reports an argument that is no address."""
    if argument.type.kind not in ("int", "ptr", "string", "array", "ksym"):
        scope.error(f"{name}() expects an integer or a pointer as first argument ({argument.type} provided)", argument.span)


# -- address to symbol


def _ksym_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    wants_address(scope, "ksym", args[0])
    return T.KSYM


def _ksym(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    return Val(kind, code.i64(values[0]))


def _usym_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    wants_address(scope, "usym", args[0])
    return T.USYM


def _usym(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    address = code.i64(values[0])

    def fill(to: Value, offset: int) -> None:
        b = code.b
        b.store(to, address, offset)
        b.store(to, b.resize(code.current_pid(), I32, False), offset + 8)
        b.store(to, Const(0, I32), offset + 12)

    return Val(kind, fill=fill)


# -- symbol to address


def _kaddr_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    name = args[0].value
    if not isinstance(name, str):
        scope.error("kaddr() expects a string literal", args[0].span)
        return T.UINT64
    try:
        scope.catalogue.kernel_symbols.address(name)
    except HarkenError as problem:
        scope.error(f"Failed to resolve kernel symbol: {name}", args[0].span, f"{problem.message}: {problem.hint}")
    scope.use("boot")
    return T.UINT64


def _kaddr(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    return code.number(site.catalogue.kernel_symbols.address(str(args[0].value)), kind)


def _uaddr_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    name, nowhere = args[0].value, T.pointer(Void(), "user")
    if not isinstance(name, str):
        scope.error("uaddr() expects a string literal", args[0].span)
        return nowhere
    if scope.kind not in _USER_PROBES:
        scope.error(
            f"The uaddr function can not be used with '{scope.kind}' probes",
            span,
            f"it looks into the probed file: it can be used in {', '.join(_USER_PROBES)}",
        )
        return nowhere
    path, elf = scope.probed[0], scope.catalogue.binary(scope.probed[0])
    symbol = elf.symbol(name)
    if symbol is None:
        near = nearest(name, [known for known, _, _ in elf.functions()])
        scope.error(
            f"Could not resolve symbol: {path}:{name}",
            args[0].span,
            f"did you mean {near[0]}?" if near else f"`nm {path}` shows which symbols the file has; a stripped one has few",
        )
        return nowhere
    width = _WIDTHS.get(symbol.size)
    return T.pointer(Int(width, symbol.size, False), "user") if width is not None else nowhere


def _uaddr(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    path, offset = site.probed
    elf = site.catalogue.binary(path)
    address = elf.symbol(str(args[0].value)).value
    if elf.type == _ET_EXEC:
        return Val(kind, Const(address))
    distance = Const(address - elf.address_of(offset))
    if site.kind != "uretprobe":
        return Val(kind, code.b.add(site.register(("reg", site.program_counter)), distance))
    here = code.b.helper("get_func_ip", site.register(("ctx",))) if site.knows_function else site.entered_at()
    known = code.b.icmp("ne", here, Const(0))
    return Val(kind, code.choose(known, lambda: code.b.add(here, distance), lambda: Const(0)))


# -- registers


def _reg_check(scope: Scope, args: tuple[Argument, ...], span: Span) -> T.Type:
    if not isinstance(args[0].value, str):
        scope.error("reg() expects a string literal", args[0].span)
    elif scope.context != "pt_regs" and scope.context != "perf_event":
        scope.error(
            f"The reg function can not be used with '{scope.kind}' probes", span, "registers are there in kprobe, uprobe and profile probes"
        )
    else:
        if args[0].value not in scope.registers:
            scope.error(
                f"'{args[0].value}' is not a valid register on this architecture", args[0].span, "there are " + ", ".join(scope.registers)
            )
    return T.UINT64


def _reg(code: Code, kind: T.Type, values: list[Val], args: tuple[Argument, ...], site: Any) -> Val:
    return Val(kind, site.register(("reg", str(args[0].value))))


ADDRESSES = (
    Builtin("ksym", "ksym(address)", "Kernel symbol of an address, looked up when it is printed.", _ksym_check, _ksym, 1, 1),
    Builtin("usym", "usym(address)", "The current process's symbol of an address, looked up when it is printed.", _usym_check, _usym, 1, 1),
    Builtin("kaddr", "kaddr(name)", "Address of a kernel symbol.", _kaddr_check, _kaddr, 1, 1),
    Builtin("uaddr", "uaddr(name)", "Address of a symbol of the probed file in the current process.", _uaddr_check, _uaddr, 1, 1),
    Builtin("reg", "reg(name)", "A register at the probe.", _reg_check, _reg, 1, 1),
)
