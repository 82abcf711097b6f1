"""The intermediate representation that every front end lowers to and every back end reads.

SSA over machine integers (``I1`` .. ``I64``) and pointers (``PTR``); aggregates live in memory.  It speaks of the domain (maps,
probe reads, events, kernel types), not of LLVM and not of BPF encodings, and it knows no kernel feature: ``passes.legalise`` turns
what a kernel lacks into what it has.

**Locals.**  Front ends make an ``alloca`` per variable and ``load``/``store`` it; ``passes.mem2reg`` promotes what is not
addressed.  An alloca may be of any size: the stack pass moves what does not fit the 512-byte frame to per-CPU scratch memory.

**Provenance.**  Each pointer carries a ``space``: where it points decides how it is read.

==============  ===============================  =======================================
space           what                             a load or copy through it becomes
==============  ===============================  =======================================
``stack``       alloca                           direct
``ctx``         the program's context            direct
``map_value``   result of a lookup, rodata       direct (after a null check if nullable)
``map_key``     key in a for-each callback       direct
``ring``        event record being built         direct
``btf``         BTF-typed kernel object          direct (the kernel handles faults)
``packet``      a network packet                 direct (after a comparison with its end)
``kernel``      any kernel address               probe_read_kernel
``user``        any user address                 probe_read_user
``any``         a kernel or a user address       probe_read: the address decides
``map``         a map itself                     not readable
==============  ===============================  =======================================

A front end that cannot know the space of a pointer (C) leaves it empty: ``passes.spaces`` finds it out by data flow once functions have
been inlined.

**Operations** (operands -> result; ``attr`` in brackets):

=============  ==========================================================================================================
add sub mul udiv sdiv umod smod and or xor shl lshr ashr   (a, b) -> same type; division by zero is BPF's: x/0 = 0, x%0 = x
neg not bswap  (a) -> same type
icmp           (a, b) [eq ne ult ule ugt uge slt sle sgt sge] -> I1; pointers may be compared with eq and ne
select         (condition, a, b) -> type of a
zext sext trunc  (a) -> wider or narrower integer
ptrtoint       (pointer) -> I64
inttoptr       (I64) -> PTR with the space given
gep            (pointer, I64 byte offset) -> PTR, same space
field          (pointer) [FieldRef] -> PTR: address of a kernel struct's field; its offset is relocatable (CO-RE)
alloca         () [(size, align, name)] -> PTR stack, contents undefined; all allocas stand in the entry block
load           (pointer) [byte offset] -> integer or PTR
store          (pointer, value) [byte offset]
copy           (destination, source) [(destination offset, source offset, size)] -> I64: 0, or -errno when the source faults
               (then the destination is zeroed)
zero           (destination) [(offset, size)]: fill with zero bytes
read_str       (destination, source, I64 size) [maximal size, constant] -> I64: length with the NUL, or -errno
atomic         (pointer, value[, expected]) [(add or and xor xchg cmpxchg, byte offset, fetch?)] -> old value if fetch
map            () [map name] -> PTR map
lookup         (map, key pointer) -> PTR map_value, nullable
update         (map, key pointer, value pointer) [flags] -> I64 status
delete         (map, key pointer) -> I64 status
for_each       (map, context pointer) [callback name] -> I64; callback(map, key PTR map_key, value PTR map_value, context PTR) -> I64
loop           (I64 count, context pointer) [callback name] -> I64; callback(I64 index, context PTR) -> I64 (1 stops)
bytes          () [bytes] -> PTR map_value: constant data in .rodata
data           () [(map name, offset)] -> PTR map_value: address in the only value of an array map (global variables)
record         () [(ring map name, fixed size, tail capacity)] -> PTR ring, nullable: space for one event
emit           (record[, I64 length]) [event id]: stores the id as the record's first u64 and submits; a refusal is counted as
               ("ring", event id); length, bounded here, only if a tail exists
discard        (record): gives the space back
count_loss     () [(kind, subject)]: adds one to a loss counter
ctx            () -> PTR ctx
arg            () [n] -> I64: the probe's nth argument, however the mechanism passes it
retval         () -> I64
reg            () [register name] -> I64
helper         (...) [helper name, "ktime_get_ns"] -> I64 or PTR
kfunc          (...) [name] -> I64 or PTR
ksym           () [symbol] -> PTR kernel: address of a kernel variable
call           (...) [function name] -> result of a static function
tail_call      (ctx, map, I32 index)
phi            (values...) [blocks, one per value]
br             () [block]
condbr         (I1) [(then block, else block)]
switch         (integer) [(default block, ((int, block), ...))]
ret            (I64) [None, or "exit": leaves the functions that this one is inlined into as well]
unreachable    ()
=============  ==========================================================================================================

**Bounds.**  The verifier must see that an index, or a size passed to a helper, is bounded.  Bound it by ``and`` with a constant or by
``select(icmp ule x, C; x; C)`` on 64 bits: passes keep both, and the back end compares in the very register that is used afterwards.

Integers narrower than 64 bits have undefined upper bits nowhere: a back end keeps them zero-extended.

Example:
    >>> f = Function("probe")
    >>> b = Builder(f)
    >>> total = b.add(b.const(2), b.helper("ktime_get_ns"))
    >>> _ = b.ret(total)
    >>> print(f)
    func probe() -> i64
    entry:
      %0 = helper ktime_get_ns : i64
      %1 = add 2, %0 : i64
      ret %1
"""

from __future__ import annotations

from .ir_builder import Builder, verify
from .ir_values import (
    BINARY,
    I1,
    I8,
    I16,
    I32,
    I64,
    NONE,
    PREDICATES,
    PTR,
    PURE,
    TERMINATORS,
    Block,
    Const,
    FieldRef,
    Function,
    Inst,
    IRError,
    Module,
    Param,
    Program,
    Type,
    Value,
    int_type,
)  # fmt: skip

__all__ = (
    "Type", "I1", "I8", "I16", "I32", "I64", "PTR", "NONE", "int_type",
    "Value", "Const", "Param", "Inst", "Block", "Function", "FieldRef", "Program", "Module", "Builder",
    "BINARY", "PREDICATES", "TERMINATORS", "PURE", "IRError", "verify",
)  # fmt: skip
