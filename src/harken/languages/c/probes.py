"""What a function's name and body say about the probe it is for.

BCC's names: ``kprobe__FUNCTION``, ``kretprobe__FUNCTION``, ``tracepoint__CATEGORY__EVENT``, ``raw_tracepoint__EVENT``,
``kfunc__MODULE__FUNCTION``, ``kretfunc__...``, ``kmod_ret__...``, ``lsm__HOOK``, ``bpf_iter__TARGET``, ``syscall__NAME``.
"""

from __future__ import annotations

from ...abi.arch import for_machine
from ...base.ctype import Ptr, Struct
from . import tree
from .unit import CFunction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...base.ctype import CType
    from .lower_unit import UnitCode

__all__ = ("describe", "kind_of")

_PREFIXES = (
    ("kprobe__", "kprobe"), ("kretprobe__", "kretprobe"), ("tracepoint__", "tracepoint"), ("raw_tracepoint__", "raw_tracepoint"),
    ("kfunc__", "kfunc"), ("kretfunc__", "kretfunc"), ("kmod_ret__", "fmod_ret"), ("fmod_ret__", "fmod_ret"), ("lsm__", "lsm"),
    ("bpf_iter__", "iter"), ("syscall__", "syscall"),
)  # fmt: skip
_MODULES = ("kfunc", "kretfunc", "fmod_ret")
_USER_STACK = 0x100


def kind_of(name: str) -> tuple[str, str]:
    """What a function's name says: (kind, target), empty if nothing.

    >>> kind_of("tracepoint__sched__sched_switch"), kind_of("kfunc__vmlinux__vfs_read"), kind_of("kfunc__xfs__xfs_file_open")
    (('tracepoint', 'sched:sched_switch'), ('kfunc', 'vfs_read'), ('kfunc', 'xfs:xfs_file_open'))
    >>> kind_of("kprobe____x64_sys_openat"), kind_of("do_it")
    (('kprobe', '__x64_sys_openat'), ('', ''))
    """
    for prefix, kind in _PREFIXES:
        if name.startswith(prefix):
            rest = name[len(prefix) :]
            if kind == "tracepoint":
                return kind, rest.replace("__", ":", 1)
            if kind in _MODULES and not rest.startswith("__") and "__" in rest:
                module, _, function = rest.partition("__")
                return kind, function if module == "vmlinux" else f"{module}:{function}"
            return kind, rest
    return "", ""


def describe(function: tree.Function, unit: UnitCode) -> CFunction:
    """A function as the planner needs to know it."""
    kind, target = kind_of(function.name)
    words: set[str] = set()
    _collect(function, unit, words, set(), True)
    if kind == "syscall":
        words.add("syscall")  # the system call's arguments, wherever they come from
    elif function.params and _points_to(function.params[0].type, "pt_regs"):
        words.update(f"arg{number}" for number in range(len(function.params) - 1))
    return CFunction(function.name, kind, target, frozenset(words), function.span)


def _points_to(type: CType, struct: str) -> bool:
    kind = type.strip()
    target = kind.target.strip() if isinstance(kind, Ptr) else None
    return isinstance(target, Struct) and target.name == struct


def _collect(function: tree.Function, unit: UnitCode, words: set[str], seen: set[tree.Function], outer: bool) -> None:
    if function in seen or function.body is None:
        return
    seen.add(function)
    words |= unit.uses.get(function.name, set())
    arch = for_machine(unit.machine)
    for node in tree.walk(function.body):
        if isinstance(node, tree.Member) and node.arrow and node.struct.name == "pt_regs":
            if not isinstance(_root(node.base), tree.Parameter):
                continue  # the registers of a system call's caller, read from memory
            names = [name for name, at in arch.registers.items() if at == node.bit_offset // 8]
            _register(names, arch.arguments, arch.result, words)
        elif isinstance(node, tree.Index) and _member_of_registers(node.base):
            number = node.index.value if isinstance(node.index, tree.Literal) else -1
            names = [name for name, at in arch.registers.items() if at == 8 * number]
            _register(names, arch.arguments, arch.result, words)
        elif isinstance(node, tree.Call):
            if node.function.kind == "user":
                _collect(node.function, unit, words, seen, False)
            elif node.function.name in ("get_stackid", "get_stack"):
                _stack(node.args[-1] if node.args else None, words)
            elif node.function.name == "override_return":
                words.add("reg")
        elif isinstance(node, tree.Method) and node.name == "get_stackid":
            _stack(node.args[-1] if node.args else None, words)


def _member_of_registers(node: tree.Expr) -> bool:
    while isinstance(node, tree.Cast):
        node = node.operand
    return isinstance(node, tree.Member) and node.struct.name in ("pt_regs", "user_pt_regs")


def _register(names: list[str], arguments: tuple[str, ...], result: str, words: set[str]) -> None:
    if not names:
        return
    for name in names:
        if name in arguments:
            words.add(f"arg{arguments.index(name)}")
    if result in names:
        words.add("retval")
    elif not any(name in arguments for name in names):
        words.add("reg")


def _root(node: tree.Expr) -> tree.Declaration | None:
    while isinstance(node, tree.Cast):
        node = node.operand
    return node.declaration if isinstance(node, tree.Name) else None


def _stack(flags: tree.Expr | None, words: set[str]) -> None:
    while isinstance(flags, tree.Cast):
        flags = flags.operand
    if isinstance(flags, tree.Literal):
        words.add("ustack" if flags.value & _USER_STACK else "kstack")
    else:
        words.update(("kstack", "ustack"))
