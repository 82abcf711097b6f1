"""What is surely not meant in a C program, though it compiles: told as warnings beside clang's own.

* more bytes are read from, or written to, a variable than it has (``perf_submit(ctx, &data, sizeof(data) + 8)``);
* a process's memory, to which a system call's argument points, is read as if it were the kernel's: a read that fails, and gives zero;
* a format that ``bpf_trace_printk()`` refuses, each time it runs, without a word.

Refused are a program that takes its context by value, and tables of a size that no kernel makes.
"""

from __future__ import annotations

import re
from mmap import PAGESIZE

from ...base.ctype import Array, Ptr, Struct
from ...base.diagnostics import Diagnostic, Span, error
from . import tree
from .lower_memory import is_aggregate
from .lower_unit import fold_constant
from .probes import kind_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...base.ctype import CType

__all__ = ("Told", "mistakes", "warnings")

#: place, text, what to do
Told = tuple[Span | None, str, str]

#: kinds of tables that need a size
_SIZED = frozenset("hash array percpu_hash percpu_array lru_hash lru_percpu_hash lpm_trie histogram stacktrace prog queue stack".split())
#: functions -> which argument points to memory, which says how much of it
_EXTENTS = {
    **dict.fromkeys(("probe_read", "probe_read_kernel", "probe_read_user"), (0, 1)),
    **dict.fromkeys(("probe_read_str", "probe_read_kernel_str", "probe_read_user_str"), (0, 1)),
    "get_current_comm": (0, 1), "perf_event_output": (3, 4), "skb_load_bytes": (2, 3), "skb_store_bytes": (2, 3), "get_stack": (1, 2),
    "probe_write_user": (1, 2), "perf_prog_read_value": (1, 2), "ringbuf_output": (1, 2), "bpf_usdt_readarg_p": (2, 3),
}  # fmt: skip
_METHOD_EXTENTS = {"perf_submit": (1, 2), "perf_submit_skb": (2, 3), "ringbuf_output": (0, 1), "perf_counter_value": (1, 2)}
#: kernel/trace/bpf_trace.c and kernel/bpf/helpers.c (bpf_bprintf_prepare)
_CONVERSION = re.compile(r"%(?:%|[-+0 ]*\d*(?:l?l?[diuxX]|c|s|p(?:[KxsSB]|[iI][46]|[ku]s)?))")
_DIRECTIVE = re.compile(r"%[-+0 #]*[\d.*]*(?:hh?|ll?|[zjtL])?(?:[a-zA-Z%]|$)")


def mistakes(unit: tree.TranslationUnit) -> list[Diagnostic]:
    """What is refused."""
    found = []
    for function in unit.functions:
        if not function.static and not function.inline and function.params and is_aggregate(function.params[0].type):
            type = function.params[0].type
            found.append(
                error(
                    f"{function.name}() takes its context by value",
                    function.params[0].span or function.span,
                    f"the context is a pointer: {type} *{function.params[0].name or 'ctx'}",
                )
            )
    for table in unit.tables:
        size = table.max_entries
        if table.kind == "ringbuf" and size & (size - 1):
            pages = size // PAGESIZE
            hint = f"take {1 << pages.bit_length() - 1} or {1 << pages.bit_length()}"
            found.append(error(f"{table.name}: the pages of a ring buffer are a power of two, not {pages}", table.span, hint))
        elif size == 0 and (table.kind in _SIZED or table.kind == "ringbuf"):
            found.append(error(f"{table.name} has room for nothing: its size is 0", table.span))
    return found


def warnings(unit: tree.TranslationUnit) -> list[Told]:
    """What is told and compiled."""
    found: list[Told] = []
    for function in unit.functions:
        if function.body is None:
            continue
        strange = _Pointers(function) if _may_have_process_pointers(function) else None
        for node in tree.walk(function.body):
            if isinstance(node, tree.Call):
                found += _extent(node, _EXTENTS.get(node.function.name))
                if node.function.kind == "helper" and node.function.name == "trace_printk":
                    found += _format(node)
            elif isinstance(node, tree.Method):
                found += _extent(node, _METHOD_EXTENTS.get(node.name))
            elif strange is not None and isinstance(node, tree.Cast) and node.kind == "load":
                pointer = _followed(node.operand)
                if pointer is not None and strange(pointer):
                    text = "this points to the process's memory, but is read as the kernel's, which gives zero"
                    found.append((node.span, text, "copy it first: bpf_probe_read_user(&copy, sizeof(copy), pointer)"))
    return found


# -- sizes


def _plain(node: tree.Expr) -> tree.Expr:
    while isinstance(node, tree.Cast) and node.kind in ("pointer", "same", "decay", "pointer_to_int", "int_to_pointer"):
        node = node.operand
    return node


def _extent(node: tree.Call | tree.Method, positions: tuple[int, int] | None) -> list[Told]:
    """Whether a variable is smaller than the size that is passed with its address."""
    if positions is None or max(positions) >= len(node.args):
        return []
    size = fold_constant(node.args[positions[1]])
    target = _plain(node.args[positions[0]])
    if isinstance(target, tree.AddressOf):
        target = target.operand
    elif not isinstance(target.type.strip(), Array):
        return []
    room = _room(target)
    if size is None or room is None or 0 <= size <= room[1]:
        return []
    name = node.function.name if isinstance(node, tree.Call) else node.name
    name = f"bpf_{name}" if isinstance(node, tree.Call) and node.function.kind == "helper" else name
    bytes = f"{room[1]} byte" + ("s" if room[1] != 1 else "")
    return [(node.span, f"{name}() is told of {size} bytes, but {room[0]} has {bytes} from there on", "sizeof tells how many there are")]


def _room(node: tree.Expr) -> tuple[str, int] | None:
    """(variable, bytes from a place in it to its end), or None if that is not known."""
    offset = 0
    while True:
        if isinstance(node, tree.Member) and not node.arrow:
            offset += node.bit_offset // 8
            node = node.base
        elif isinstance(node, tree.Index) and isinstance(node.base, tree.Cast) and node.base.kind == "decay":
            number = fold_constant(node.index)
            if number is None:
                return None
            offset += number * node.type.strip().size
            node = node.base.operand
        else:
            break
    if not isinstance(node, tree.Name) or not isinstance(node.declaration, (tree.Variable, tree.Parameter)):
        return None
    declared = node.declaration
    size = declared.type.strip().size
    return (declared.name, size - offset) if size and 0 <= offset <= size and getattr(declared, "storage", "local") != "extern" else None


# -- formats


def _format(node: tree.Call) -> list[Told]:
    """Whether the kernel takes the format, and it has as many values as it wants."""
    from .lower_calls import literal_of

    literal = literal_of(node.args[0]) if node.args else None
    if literal is None:
        return []
    text = literal.data.rstrip(b"\0").decode("utf-8", "replace")
    span = node.args[0].span or node.span
    count = 0
    for found in _DIRECTIVE.finditer(text):
        known = _CONVERSION.match(text, found.start())
        if known is None:
            hint = "it knows %d %i %u %x (with l or ll), %c, %s, %p and some of its kinds, and widths"
            return [(span, f"the kernel does not know {found.group()!r} and will print nothing", hint)]
        count += known.group() != "%%"
    given = len(node.args) - 1
    if count > given:
        return [
            (span, f"the format wants {count} values, {given} {'is' if given == 1 else 'are'} given: the kernel will print nothing", "")
        ]
    return []


# -- pointers of processes


def _followed(node: tree.Expr) -> tree.Expr | None:
    """The pointer that is followed to fetch an lvalue."""
    while True:
        if isinstance(node, tree.Member):
            if node.arrow:
                return node.base
            node = node.base
        elif isinstance(node, tree.Index):
            if not (isinstance(node.base, tree.Cast) and node.base.kind == "decay"):
                return node.base
            node = node.base.operand
        elif isinstance(node, tree.Deref):
            return node.pointer
        else:
            return None


def _may_have_process_pointers(function: tree.Function) -> bool:
    """Whether it is worth looking for them: that takes as long as all else."""
    kind, _ = kind_of(function.name)
    return kind == "syscall" or any(_arguments_of_call(one.type) for one in function.params)


def _arguments_of_call(type: CType) -> bool:
    kind = type.strip()
    target = kind.target.strip() if isinstance(kind, Ptr) else None
    return isinstance(target, Struct) and target.name.startswith("tracepoint__syscalls__sys_enter_")


class _Pointers:
    """Knows which pointers of a function are arguments of a system call."""

    def __init__(self, function: tree.Function) -> None:
        kind, _ = kind_of(function.name)
        self.marked: set[tree.Declaration] = set()
        if kind == "syscall":
            self.marked.update(one for one in function.params[1:] if isinstance(one.type.strip(), Ptr))
        self._follow_variables(function)

    def _follow_variables(self, function: tree.Function) -> None:
        """Variables that only ever get such pointers."""
        given: dict[tree.Declaration, list[tree.Expr]] = {}
        for node in tree.walk(function.body):
            if isinstance(node, tree.Declare):
                for one in node.variables:
                    if one.init is not None and isinstance(one.type.strip(), Ptr):
                        given.setdefault(one, []).append(one.init)
            elif isinstance(node, tree.Assign) and isinstance(node.target, tree.Name):
                given.setdefault(node.target.declaration, []).append(tree.Literal(node.target.type, None, 1) if node.op else node.value)
            elif isinstance(node, tree.AddressOf) and isinstance(node.operand, tree.Name):
                given.setdefault(node.operand.declaration, []).append(tree.Literal(node.type, None, 1))
        self.marked.difference_update(given)
        changed = True
        while changed:
            changed = False
            for declaration, values in given.items():
                if declaration not in self.marked and all(self(value) for value in values):
                    self.marked.add(declaration)
                    changed = True

    def __call__(self, node: tree.Expr) -> bool:
        while isinstance(node, tree.Cast) and node.kind in ("pointer", "same", "int_to_pointer", "pointer_to_int", "integral"):
            node = node.operand
        if isinstance(node, tree.Binary) and node.op in "+-" and isinstance(node.type.strip(), Ptr):
            return self(node.left) or self(node.right)
        if not isinstance(node, tree.Cast) or node.kind != "load":
            return False
        source = node.operand
        if isinstance(source, tree.Name):
            return source.declaration in self.marked
        return (
            isinstance(source, tree.Member)
            and source.arrow
            and source.struct.name.startswith("tracepoint__syscalls__sys_enter_")
            and _pointer(source.type)
        )


def _pointer(type: CType) -> bool:
    return isinstance(type.strip(), Ptr)
