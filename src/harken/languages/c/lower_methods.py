"""Methods of maps: ``counts.lookup(&key)``, ``counts.increment(key)``, ``events.perf_submit(ctx, &data, sizeof(data))``, ...

They are what BCC rewrites them to, with one difference that nobody can see: a lookup that creates does not look up again when the
map is an array, whose elements always exist.
"""

from __future__ import annotations

from ...compiler.ir import I32, I64, PTR, Const, Value
from . import tree
from .lower_builtins import BuiltinCode
from .lower_memory import Place, Result, Wide, is_aggregate, is_pointer, is_signed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("MethodCode",)

_CURRENT_CPU = 0xFFFFFFFF  # BPF_F_CURRENT_CPU
_NOEXIST = 1
_ARRAYS = frozenset(("array", "percpu_array", "prog", "perf_output", "perf_array", "cgroup_array"))


class MethodCode(BuiltinCode):
    """Code of methods of maps."""

    # -- arguments
    def table_of(self, node: tree.Expr) -> tree.Table | None:
        """The map that an argument names (``&map``), or None."""
        while isinstance(node, (tree.Cast, tree.AddressOf)):
            node = node.operand
        return node.declaration if isinstance(node, tree.Name) and isinstance(node.declaration, tree.Table) else None

    def argument(self, node: tree.Expr) -> Value:
        """What a helper gets for an expression: a map, a pointer, or 64 bits of an integer."""
        table = self.table_of(node)
        if table is not None:
            return self.b.map(table.name)
        value = self.rvalue(node)
        if isinstance(value, Place):
            return self.address(value)
        if isinstance(value, Wide):
            return value.low
        if value.type.pointer:
            return value
        return self.b.resize(value, I64, is_signed(node.type))

    def method(self, node: tree.Method) -> Result:
        """A call of a map's method."""
        rule: Callable[[tree.Method], Result] | None = getattr(self, "m_" + node.name, None)
        if rule is None:
            self.fail(f"maps have no method {node.name}()", node.span)
        return rule(node)

    def _map_helper(self, node: tree.Method, name: str, *args: Value) -> Result:
        """A helper with an integer result, as the method's type."""
        result = self.b.helper(name, *args)
        if not node.type.strip().size:
            return Const(0, I32)
        return self.b.resize(result, self.scalar(node.type), False)

    # -- hashes and arrays
    def m_lookup(self, node: tree.Method) -> Result:
        return self.b.lookup(node.table.name, self.pointer(self.argument(node.args[0])))

    def _created(self, node: tree.Method) -> Value:
        """Looks up a key; creates it with an initial value if it is not there."""
        key, value = (self.pointer(self.argument(arg)) for arg in node.args[:2])
        return self.look_up_or_create(node.table, key, lambda: value)

    def look_up_or_create(self, table: tree.Table, key: Value, value: Callable[[], Value]) -> Value:
        """The value of a key as a nullable pointer; ``value`` gives the initial one's address where it is needed."""
        b = self.b
        first = b.lookup(table.name, key)
        if table.kind in _ARRAYS or (table.kind == "histogram" and _is_array(table)):
            return first
        create, done = b.block("create"), b.block("found")
        origin = b.at
        b.not_null(first, done, create)
        b.goto(create)
        b.update(table.name, key, value(), _NOEXIST)
        second = b.lookup(table.name, key)
        created = b.at
        b.br(done)
        b.goto(done)
        return b.phi(PTR, ((origin, first), (created, second)), space="map_value", nullable=True)

    def m_lookup_or_try_init(self, node: tree.Method) -> Result:
        return self._created(node)

    def m_lookup_or_init(self, node: tree.Method) -> Result:
        """As BCC has it: the function returns 0 if the map is full."""
        b = self.b
        found = self._created(node)
        full, there = b.block("full"), b.block("there")
        b.not_null(found, there, full)
        b.goto(full)
        self.leave(None)
        b.goto(there)
        return found

    def m_update(self, node: tree.Method) -> Result:
        return self._update(node, 0)

    def m_insert(self, node: tree.Method) -> Result:
        return self._update(node, _NOEXIST)

    def _update(self, node: tree.Method, flags: int) -> Result:
        key, value = (self.pointer(self.argument(arg)) for arg in node.args[:2])
        return self.b.resize(self.b.update(node.table.name, key, value, flags), I32, False)

    def m_delete(self, node: tree.Method) -> Result:
        return self.b.resize(self.b.delete(node.table.name, self.pointer(self.argument(node.args[0]))), I32, False)

    def _incremented(self, node: tree.Method, atomic: bool) -> Result:
        """Adds to the value of a key, which begins at zero."""
        b, table = self.b, node.table
        kind = table.value
        if kind is None or is_aggregate(kind) or is_pointer(kind):
            self.fail(f"{node.name}() takes a map of integers, but the values of {table.name} are {kind}", node.span)
        machine = self.scalar(kind)
        key = self.memory(node.args[0])
        amount: Value = Const(1, machine)
        if len(node.args) > 1:
            amount = self.value(self.convert(self.rvalue(node.args[1]), node.args[1].type, kind))

        def zero() -> Value:
            place = self.new_place(kind, "zero")
            b.store(place.pointer, Const(0, machine))
            return place.pointer

        found = self.look_up_or_create(table, key, zero)
        there, done = b.block("there"), b.block("added")
        b.not_null(found, there, done)
        b.goto(there)
        if atomic:
            b.atomic("add", found, amount)
        else:
            b.store(found, b.add(b.load(found, machine), amount))
        b.br(done)
        b.goto(done)
        return Const(0, I32)

    def m_increment(self, node: tree.Method) -> Result:
        return self._incremented(node, False)

    def m_atomic_increment(self, node: tree.Method) -> Result:
        return self._incremented(node, True)

    # -- stacks, events
    def m_get_stackid(self, node: tree.Method) -> Result:
        context, flags = (self.argument(arg) for arg in node.args)
        return self._map_helper(node, "get_stackid", context, self.b.map(node.table.name), flags)

    def m_perf_submit(self, node: tree.Method) -> Result:
        context, data, size = (self.argument(arg) for arg in node.args)
        return self._map_helper(node, "perf_event_output", context, self.b.map(node.table.name), Const(_CURRENT_CPU), data, size)

    def m_perf_submit_skb(self, node: tree.Method) -> Result:
        """The event with the first bytes of a packet behind it."""
        b = self.b
        packet, length, data, size = (self.argument(arg) for arg in node.args)
        flags = b.binary("or", b.binary("shl", length, Const(32)), Const(_CURRENT_CPU))
        return self._map_helper(node, "perf_event_output", packet, b.map(node.table.name), flags, data, size)

    def m_perf_read(self, node: tree.Method) -> Result:
        return self._map_helper(node, "perf_event_read", self.b.map(node.table.name), self.argument(node.args[0]))

    def m_perf_counter_value(self, node: tree.Method) -> Result:
        index, buffer, size = (self.argument(arg) for arg in node.args)
        return self._map_helper(node, "perf_event_read_value", self.b.map(node.table.name), index, buffer, size)

    def m_ringbuf_output(self, node: tree.Method) -> Result:
        data, size, flags = (self.argument(arg) for arg in node.args)
        return self._map_helper(node, "ringbuf_output", self.b.map(node.table.name), data, size, flags)

    def m_ringbuf_reserve(self, node: tree.Method) -> Result:
        size = self.constant(node.args[0])
        if size is None:
            self.fail("the size of a ring buffer's event must be constant", node.span, "ringbuf_output() takes variable sizes")
        return self.b.helper("ringbuf_reserve", self.b.map(node.table.name), Const(size), Const(0), type=PTR, space="ring", nullable=True)

    def m_ringbuf_submit(self, node: tree.Method) -> Result:
        data, flags = (self.argument(arg) for arg in node.args)
        self.b.helper("ringbuf_submit", data, flags)
        return Const(0, I32)

    def m_ringbuf_discard(self, node: tree.Method) -> Result:
        data, flags = (self.argument(arg) for arg in node.args)
        self.b.helper("ringbuf_discard", data, flags)
        return Const(0, I32)

    def m_ringbuf_query(self, node: tree.Method) -> Result:
        return self._map_helper(node, "ringbuf_query", self.b.map(node.table.name), self.argument(node.args[0]))

    # -- other kinds of maps
    def m_call(self, node: tree.Method) -> Result:
        context, index = (self.argument(arg) for arg in node.args)
        self.b.insert("tail_call", (context, self.b.map(node.table.name), self.b.resize(index, I32, False)))
        return Const(0, I32)

    def m_push(self, node: tree.Method) -> Result:
        value, flags = (self.argument(arg) for arg in node.args)
        return self._map_helper(node, "map_push_elem", self.b.map(node.table.name), value, flags)

    def m_pop(self, node: tree.Method) -> Result:
        return self._map_helper(node, "map_pop_elem", self.b.map(node.table.name), self.argument(node.args[0]))

    def m_peek(self, node: tree.Method) -> Result:
        return self._map_helper(node, "map_peek_elem", self.b.map(node.table.name), self.argument(node.args[0]))

    def m_check_current_task(self, node: tree.Method) -> Result:
        return self._map_helper(node, "current_task_under_cgroup", self.b.map(node.table.name), self.argument(node.args[0]))

    def m_redirect_map(self, node: tree.Method) -> Result:
        index, flags = (self.argument(arg) for arg in node.args)
        return self._map_helper(node, "redirect_map", self.b.map(node.table.name), index, flags)

    def _socket(self, node: tree.Method) -> Result:
        """sock_map_update and its kin: (context, map, key, flags)."""
        context, key, flags = (self.argument(arg) for arg in node.args)
        return self._map_helper(node, node.name, context, self.b.map(node.table.name), key, flags)

    m_sock_map_update = m_sock_hash_update = m_msg_redirect_hash = m_sk_redirect_hash = m_sk_redirect_map = _socket

    def _storage_get(self, node: tree.Method) -> Result:
        owner, value, flags = (self.argument(arg) for arg in node.args)
        return self.b.helper(node.name, self.b.map(node.table.name), owner, value, flags, type=PTR, space="map_value", nullable=True)

    def _storage_delete(self, node: tree.Method) -> Result:
        return self._map_helper(node, node.name, self.b.map(node.table.name), self.argument(node.args[0]))

    m_sk_storage_get = m_inode_storage_get = m_task_storage_get = _storage_get
    m_sk_storage_delete = m_inode_storage_delete = m_task_storage_delete = _storage_delete

    def m_get_local_storage(self, node: tree.Method) -> Result:
        flags = self.argument(node.args[0])
        return self.b.helper("get_local_storage", self.b.map(node.table.name), flags, type=PTR, space="map_value")


def _is_array(table: tree.Table) -> bool:
    """Whether a histogram is kept in an array: its key is a number of four bytes."""
    key = table.key.strip() if table.key is not None else None
    return key is not None and key.size == 4 and not is_aggregate(key)
