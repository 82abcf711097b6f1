"""The functions that print formats call: ``__print_flags``, ``__get_str``, ``sizeof``, byte swaps and what else macros leave."""

from __future__ import annotations

from . import print_fmt_helpers as helpers
from .print_fmt_expressions import ExpressionCoder
from .print_fmt_values import Unsupported, Value, constant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .event_format import FormatField
    from .print_fmt_parse import Tree

__all__ = ("CallCoder",)

_HYPERCALLS = {  # include/xen/interface/xen.h
    number: f"({name})"
    for number, name in enumerate(
        "set_trap_table mmu_update set_gdt stack_switch set_callbacks fpu_taskswitch sched_op_compat platform_op set_debugreg get_debugreg "
        "update_descriptor - memory_op multicall update_va_mapping set_timer_op event_channel_op_compat xen_version console_io "
        "physdev_op_compat grant_table_op vm_assist update_va_mapping_otherdomain iret vcpu_op set_segment_base mmuext_op acm_op nmi_op "
        "sched_op callback_op xenoprof_op event_channel_op physdev_op hvm_op".split()
    )
    if name != "-"
} | {48 + number: f"(arch_{number})" for number in range(8)}

#: The functions of the kernel that print formats call by name: the texts they give.
_ENUM_FUNCTIONS = {
    "mc_event_error_type": ({0: "Corrected", 1: "Uncorrected", 2: "Deferred", 3: "Fatal"}, "Info"),  # include/linux/edac.h
    "xen_hypercall_name": (_HYPERCALLS, ""),  # arch/x86/xen/trace.c
}


class CallCoder(ExpressionCoder):
    """Calls, each by a method ``call_NAME``."""

    def on_call(self, tree: Tree) -> Value:
        name, arguments = tree[1], tree[2]
        known = getattr(self, "call_" + name.strip("_").replace("_rel_", "_"), None)
        if name in _ENUM_FUNCTIONS:
            table, default = _ENUM_FUNCTIONS[name]
            return Value(f"{self.keep(table)}.get({self.integer(arguments[0]).code}, {default!r})", kind="str")
        if known is None or not arguments:
            raise Unsupported(f"function {name} of the kernel")
        return known(arguments)  # type: ignore[no-any-return]

    def named_field(self, tree: Tree) -> FormatField:
        if tree[0] in ("name", "field"):
            return self.field(tree[1])
        raise Unsupported("the name of a field is missing")

    def call_get_str(self, arguments: list[Tree]) -> Value:
        return Value(self.text(self.dynamic(self.named_field(arguments[0]))).code, kind="str")

    def call_get_dynamic_array(self, arguments: list[Tree]) -> Value:
        return self.dynamic(self.named_field(arguments[0]))

    call_get_sockaddr = call_get_sockaddr_rel = call_get_buf = call_get_dynamic_array

    def call_get_dynamic_array_len(self, arguments: list[Tree]) -> Value:
        return self.length(self.named_field(arguments[0]))

    def call_get_bitmask(self, arguments: list[Tree]) -> Value:
        memory = self.dynamic(self.named_field(arguments[0]))
        return Value(f"_h.bitmask(b[{memory.code}:{memory.end}], {self.order!r}, {self.env.long_size})", kind="str")

    call_get_cpumask = call_get_bitmask

    def call_print_bitmask(self, arguments: list[Tree]) -> Value:
        memory = self.memory(arguments[0], self.integer(arguments[1]))
        return Value(f"_h.bitmask({memory}, {self.order!r}, {self.env.long_size})", kind="str")

    def pairs(self, arguments: list[Tree]) -> list[tuple[int, str]]:
        """The ``{ value, "name" }`` of flags and symbols."""
        found = []
        for item in arguments:
            if item[0] != "list" or len(item[1]) != 2:
                if item == ("list", []) or item[0] == "num":
                    continue
                raise Unsupported("a table entry that is not { value, name }")
            name = self.value(item[1][1])
            if name.kind != "str" or not isinstance(name.layout, str):
                if name.const == 0:  # { -1, NULL } ends a table
                    break
                raise Unsupported("a table entry without a name")
            self.spend(-len(name.layout))  # of a table's names only some are in a text
            try:
                found.append((self.entry(item[1][0]), name.layout))
            except Unsupported as error:  # a name that nobody knows never matches: the value is shown in hex
                self.unknown.append(error.problem)
        return found

    def entry(self, tree: Tree) -> int:
        value = self.integer(tree)
        if value.const is None:
            raise Unsupported("a table entry whose value is not constant")
        return value.const & 0xFFFFFFFFFFFFFFFF

    def call_print_flags(self, arguments: list[Tree]) -> Value:
        delimiter = self.value(arguments[1])
        separator = delimiter.layout if delimiter.kind == "str" and isinstance(delimiter.layout, str) else ""
        table = self.pairs(arguments[2:])
        self.spend(sum([len(name) + len(separator) for _, name in table]))
        memo = self.keep(helpers.flags(separator, table))
        return Value(f"{memo}[{self.convert(self.integer(arguments[0]), 8, False).code}]", kind="str")

    call_print_flags_u64 = call_print_flags

    def call_print_symbolic(self, arguments: list[Tree]) -> Value:
        table = self.pairs(arguments[1:])
        self.spend(max([len(name) for _, name in table], default=0))
        memo = self.keep(helpers.symbols(table))
        return Value(f"{memo}[{self.convert(self.integer(arguments[0]), 8, False).code}]", kind="str")

    call_print_symbolic_u64 = call_print_symbolic

    def memory(self, tree: Tree, length: Value | None = None) -> str:
        """Code of the bytes at an address, at most ``length`` of them, never beyond the record."""
        memory = self.value(tree)
        if memory.kind != "mem":
            raise Unsupported("memory that is not in the record")
        if length is None:
            return f"b[{memory.code}:{memory.end}]"
        if length.const is not None and length.const >= 0:
            return f"b[(_q := {memory.code}):min(_q+{length.const}, e)]"
        return f"b[(_q := {memory.code}):min(_q+max(0, {length.code}), e)]"

    def call_print_hex(self, arguments: list[Tree]) -> Value:
        return Value(f'_h.hex_bytes({self.memory(arguments[0], self.length_of(arguments))}, " ")', kind="str")

    def call_print_hex_str(self, arguments: list[Tree]) -> Value:
        return Value(f'_h.hex_bytes({self.memory(arguments[0], self.length_of(arguments))}, "")', kind="str")

    def length_of(self, arguments: list[Tree]) -> Value:
        return self.convert(self.integer(arguments[1]), 4, True)

    def call_print_array(self, arguments: list[Tree]) -> Value:
        count, size = self.convert(self.integer(arguments[1]), 4, True), self.integer(arguments[2])
        memory = self.value(arguments[0])
        if memory.kind != "mem":
            raise Unsupported("an array that is not in the record")
        return Value(f"_h.int_array(b[{memory.code}:e], {count.code}, {size.code}, {self.order!r})", kind="str")

    def call_print_dynamic_array(self, arguments: list[Tree]) -> Value:
        memory, size = self.dynamic(self.named_field(arguments[0])), self.integer(arguments[1])
        text = f"b[{memory.code}:{memory.end}]"
        return Value(f"_h.int_array((_q := {text}), len(_q) // max(1, {size.code}), {size.code}, {self.order!r})", kind="str")

    def call_print_ns_to_secs(self, arguments: list[Tree]) -> Value:
        value = self.convert(self.integer(arguments[0]), 8, False)
        return Value(f"({value.code} // 1000000000)", 8, False)

    def call_print_ns_without_secs(self, arguments: list[Tree]) -> Value:
        value = self.convert(self.integer(arguments[0]), 8, False)
        return Value(f"({value.code} % 1000000000)", 4, False)

    def call_builtin_expect(self, arguments: list[Tree]) -> Value:
        return self.value(arguments[0])

    def call_builtin_constant_p(self, arguments: list[Tree]) -> Value:
        return constant(0, 4, True)

    def call_sizeof(self, arguments: list[Tree]) -> Value:
        tree = arguments[0]
        size = self.env.long_size
        if tree[0] == "type":
            return constant(self.type_of(tree[1])[0], size, False)
        if tree[0] == "field":
            field = self.field(tree[1])
            return constant(field.size, size, False)
        if tree[0] == "name" and tree[1] not in self.locals:
            return constant(self.type_of((tree[1],))[0], size, False)
        value = self.value(tree)
        return constant(value.size, size, False)

    def call_pte_val(self, arguments: list[Tree]) -> Value:
        """The number in a page table entry (``pte_t`` and its like are structs of one long)."""
        value = self.value(arguments[0])
        if value.kind == "mem":
            value = self.load(Value(value.code, self.env.long_size, False, "mem", end=value.end), "0")
        return self.convert(self.number(value), self.env.long_size, False)

    call_pmd_val = call_pud_val = call_p4d_val = call_pgd_val = call_pte_val
    call_native_make_pte = call_native_make_pmd = call_native_make_pud = call_native_make_p4d = call_native_make_pgd = call_pte_val

    def call_jiffies_to_msecs(self, arguments: list[Tree]) -> Value:
        value = self.convert(self.integer(arguments[0]), self.env.long_size, False)
        hz = self.env.hz
        code = f"({value.code} * {1000 // hz})" if 1000 % hz == 0 else f"({value.code} * 1000 // {hz})"
        return self.convert(Value(code, 8, False), 4, False) if value.const is None else constant(value.const * 1000 // hz, 4, False)

    def call_jiffies_to_usecs(self, arguments: list[Tree]) -> Value:
        value = self.convert(self.integer(arguments[0]), self.env.long_size, False)
        return Value(self.fold(f"{value.code} * 1000000 // {self.env.hz}", 4, False), 4, False)

    def call_be16_to_cpu(self, arguments: list[Tree]) -> Value:
        return self.swapped(arguments[0], 2, ">")

    def call_be32_to_cpu(self, arguments: list[Tree]) -> Value:
        return self.swapped(arguments[0], 4, ">")

    def call_be64_to_cpu(self, arguments: list[Tree]) -> Value:
        return self.swapped(arguments[0], 8, ">")

    def call_le16_to_cpu(self, arguments: list[Tree]) -> Value:
        return self.swapped(arguments[0], 2, "<")

    def call_le32_to_cpu(self, arguments: list[Tree]) -> Value:
        return self.swapped(arguments[0], 4, "<")

    def call_le64_to_cpu(self, arguments: list[Tree]) -> Value:
        return self.swapped(arguments[0], 8, "<")

    call_ntohs, call_ntohl = call_be16_to_cpu, call_be32_to_cpu
    call_le16_to_cpup, call_le32_to_cpup, call_be64_to_cpup = call_le16_to_cpu, call_le32_to_cpu, call_be64_to_cpu

    def swapped(self, tree: Tree, size: int, order: str) -> Value:
        value = self.value(tree)
        value = self.load(value, "0") if value.kind == "mem" else value
        value = self.convert(self.number(value), size, False)
        if order == self.order:
            return value
        return Value(f'int.from_bytes(({value.code}).to_bytes({size}, "little"), "big")', size, False)
