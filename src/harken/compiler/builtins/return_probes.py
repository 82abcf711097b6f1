"""Return addresses that return probes have taken from a copied stack.

A uretprobe puts the address of a page of the kernel's ("[uprobes]") in the place of a function's return address while the function runs.
Whoever unwinds a stack does not get any further there: that page has no call frame information, and the real address is known to the
kernel alone.  It keeps a list per thread, ``task_struct.utask->return_instances``, with the address and the stack pointer at the time.  On
x86-64 the address was there, so that it can be put back into the copy (``session.stacks``).  On arm64 it is in a register when it is taken,
and where the function saves that is not known: stacks end there.

The innermost 32 are given; the kernel has at most 64 (MAX_URETPROBE_DEPTH).

Facts: include/linux/uprobes.h (``struct return_instance``), prepare_uretprobe in kernel/events/uprobes.c.
"""

from __future__ import annotations

from ...base.ctype import Struct
from ..ir import I64, PTR, Const, Function, Param, Value
from ..passes.legalise import RECORD
from .code import Code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    #: Offsets in the kernel's structs: of utask, return_instances, stack (which the address follows), next.
    Places = tuple[int, int, int, int]

__all__ = ("ROOM", "places", "taken")

_MOST, _PAIR = 32, 16
#: Bytes of all that are given: u64 place on the stack, u64 address each.
ROOM = _MOST * _PAIR
#: Words that the rounds of the loop share.
_INSTANCE, _PAIRS = 0, 8
_MEMBERS = (
    ("task_struct", "utask"),
    ("uprobe_task", "return_instances"),
    ("return_instance", "stack"),
    ("return_instance", "next"),
    ("return_instance", "orig_ret_vaddr"),
)


def places(catalogue: Any, machine: str) -> Places | None:
    """Where this kernel keeps return addresses, None if that is not known or does not help.

    Kernels without ``bpf_loop`` (before Linux 5.17) would follow every round of the loop in every way that leads there: not worth it.
    """
    if machine != "x86_64" or catalogue.btf is None or catalogue.features.answer("bpf_loop").state != "yes":
        return None
    found = []
    for struct, name in _MEMBERS:
        kind = catalogue.btf.struct(struct)
        member = kind.member(name) if isinstance(kind, Struct) else None
        if member is None:
            return None
        found.append(member.bit_offset // 8)
    return (found[0], found[1], found[2], found[3]) if found[4] == found[2] + 8 else None


def taken(code: Code, where: Places) -> tuple[Value, Value]:
    """The current thread's return addresses: (the pairs, how many bytes they are, at most ``ROOM``)."""
    b = code.b
    pairs = code.kept("return_probes", lambda: b.alloca(ROOM, RECORD))
    word, count = b.alloca(8, "utask"), b.alloca(8, "returns")
    b.store(count, Const(0))

    def read(address: Value, offset: int) -> Value:
        b.helper("probe_read_kernel", word, Const(8), b.add(address, Const(offset)))  # zero if it cannot be read
        return b.load(word)

    def some(instance: Value) -> None:
        shared = b.alloca(16, "instances")
        b.store(shared, instance, _INSTANCE)
        b.store(shared, pairs, _PAIRS)
        if _ROUND not in code.module.functions:
            params = (Param(0, "index", I64), Param(1, "shared", PTR, "stack"))
            function = code.module.add(Function(_ROUND, params, I64, "callback", code.function.span))
            _round(Code(code.module, function, code.events, code.environment), *params, where)
        b.store(count, b.insert("loop", (Const(_MOST), shared), I64, _ROUND))

    def thread(utask: Value) -> None:
        instance = read(utask, where[1])
        code.when(b.icmp("ne", instance, Const(0)), lambda: some(instance))

    utask = read(b.helper("get_current_task"), where[0])
    code.when(b.icmp("ne", utask, Const(0)), lambda: thread(utask))
    found = b.load(count)
    return pairs, b.binary("mul", b.select(b.icmp("ule", found, Const(_MOST)), found, Const(0)), Const(_PAIR))


_ROUND = "return_probe"


def _round(code: Code, index: Value, shared: Value, where: Places) -> None:
    """One of them; the last one ends the loop."""
    b = code.b
    instance = b.load(shared, offset=_INSTANCE)
    pairs = b.load(shared, PTR, _PAIRS, space="stack")
    to = b.gep(pairs, b.binary("mul", b.binary("and", index, Const(_MOST - 1)), Const(_PAIR)))
    b.helper("probe_read_kernel", to, Const(_PAIR), b.add(instance, Const(where[2])))
    word = b.alloca(8, "next")
    b.helper("probe_read_kernel", word, Const(8), b.add(instance, Const(where[3])))
    following = b.load(word)
    b.store(shared, following, _INSTANCE)
    more, done = b.block("more"), b.block("done")
    b.condbr(b.icmp("ne", following, Const(0)), more, done)
    b.goto(more)
    b.ret(Const(0))
    b.goto(done)
    b.ret(Const(1))
