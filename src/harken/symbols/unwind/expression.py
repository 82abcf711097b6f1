"""DWARF expressions, as far as call frame information uses them: a stack machine over registers and memory.

Location operators that make no sense in a frame's rules (pieces, object addresses, calls) are refused, and so is anything that runs for too
long: expressions come from files that nobody has vetted.

Reference: DWARF 5, section 2.5.

Example:
    >>> evaluate(bytes([0x77, 8, 0x80, 0, 0x3F, 0x1A, 0x3B, 0x2A, 0x33, 0x24, 0x22]), {7: 0x7000, 16: 0x40102B}.__getitem__, None) == 0x7010
    True
"""

from __future__ import annotations

from .reader import WORD, sleb, uleb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("evaluate", "registers_of")

_STEPS, _DEPTH = 1000, 64
_SIGN = 1 << 63


def _signed(value: int) -> int:
    return value - (1 << 64) if value & _SIGN else value


def _widened(value: int) -> int:
    """A 32-bit value with its sign in all 64 bits."""
    return value | 0xFFFFFFFF00000000 if value & 1 << 31 else value


def evaluate(
    code: bytes,
    register: Callable[[int], int],
    memory: Callable[[int, int], int] | None,
    first: int | None = None,
    bias: int = 0,
    word: int = 8,
) -> int:
    """The value of an expression.

    Args:
        register: DWARF number -> value; raises KeyError for one that is not known.
        memory: (address, bytes) -> value; raises LookupError for memory that is not known.  None if there is none.
        first: pushed before the expression starts (the CFA, for rules of registers).
        bias: how far the file was moved when it was loaded, for DW_OP_addr.
        word: bytes of an address, to which values are kept.

    Raises:
        LookupError: a register or memory is not known, or the expression ends too early.
        ValueError: the expression is damaged, or does what frames may not do.
    """
    stack: list[int] = [] if first is None else [first]
    position, end, steps = 0, len(code), 0
    pop, push = stack.pop, stack.append
    narrow = word == 4
    mask = 0xFFFFFFFF if narrow else WORD
    while position < end:
        steps += 1
        if steps > _STEPS or len(stack) > _DEPTH:
            raise ValueError("the expression runs for too long")
        op = code[position]
        position += 1
        if 0x70 <= op <= 0x8F:  # DW_OP_breg0...
            value, position = sleb(code, position)
            push((register(op - 0x70) + value) & mask)
        elif 0x30 <= op <= 0x4F:  # DW_OP_lit0...
            push(op - 0x30)
        elif 0x50 <= op <= 0x6F:  # DW_OP_reg0...: the register itself
            push(register(op - 0x50))
        elif op in (0x06, 0x94):  # DW_OP_deref, DW_OP_deref_size
            size = word
            if op == 0x94:
                size = code[position]
                position += 1
                if not 1 <= size <= 8:
                    raise ValueError("a memory access of a strange size")
            if memory is None:
                raise LookupError("no memory")
            push(memory(pop(), size))
        elif op in _UNSIGNED:
            size = word if op == 0x03 else _UNSIGNED[op]
            push(int.from_bytes(_take(code, position, size), "little") + (bias if op == 0x03 else 0) & mask)
            position += size
        elif op in _SIGNED:
            size = _SIGNED[op]
            push(int.from_bytes(_take(code, position, size), "little", signed=True) & mask)
            position += size
        elif op == 0x10:
            value, position = uleb(code, position)
            push(value & mask)
        elif op == 0x11:
            value, position = sleb(code, position)
            push(value & mask)
        elif op == 0x92:  # DW_OP_bregx
            number, position = uleb(code, position)
            value, position = sleb(code, position)
            push((register(number) + value) & mask)
        elif op == 0x90:  # DW_OP_regx
            number, position = uleb(code, position)
            push(register(number))
        elif op == 0x12:
            push(stack[-1])
        elif op == 0x13:
            pop()
        elif op == 0x14:
            push(stack[-2])
        elif op == 0x15:
            index = code[position]
            position += 1
            push(stack[-1 - index])
        elif op == 0x16:
            stack[-1], stack[-2] = stack[-2], stack[-1]
        elif op == 0x17:
            stack[-1], stack[-2], stack[-3] = stack[-2], stack[-3], stack[-1]
        elif op in _UNARY:
            value = pop()
            push(_UNARY[op](_widened(value) if narrow else value) & mask)
        elif op in _BINARY:
            right = pop()
            left = pop()
            if narrow and op in _OF_SIGNED:
                left = _widened(left)
                right = right if op == 0x26 else _widened(right)
            push(_BINARY[op](left, right) & mask)
        elif op == 0x23:
            value, position = uleb(code, position)
            push((pop() + value) & mask)
        elif op in (0x28, 0x2F):  # DW_OP_bra, DW_OP_skip
            offset = int.from_bytes(_take(code, position, 2), "little", signed=True)
            position += 2
            if op == 0x2F or pop():
                position += offset
                if not 0 <= position <= end:
                    raise ValueError("a jump leaves the expression")
        elif op != 0x96:  # DW_OP_nop
            raise ValueError(f"operator {op:#x} has no place in a frame's rules")
    if not stack:
        raise ValueError("the expression has no value")
    return stack[-1]


def registers_of(code: bytes) -> frozenset[int]:
    """The registers that an expression reads when it is straight-line arithmetic; with memory, jumps or anything else: {-1}."""
    seen: set[int] = set()

    def note(number: int) -> int:
        seen.add(number)
        return 0

    if 0x28 in code or 0x2F in code:
        return frozenset((-1,))
    try:
        evaluate(code, note, None)
    except (LookupError, ValueError, ArithmeticError):
        return frozenset((-1,))
    return frozenset(seen)


def _take(code: bytes, position: int, size: int) -> bytes:
    if position + size > len(code):
        raise IndexError("the expression is cut off")
    return code[position : position + size]


def _divide(left: int, right: int) -> int:
    left, right = _signed(left), _signed(right)
    if not right:
        raise ValueError("division by zero")
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _modulo(left: int, right: int) -> int:
    if not right:
        raise ValueError("division by zero")
    return left % right


#: operator -> bytes of its operand
_UNSIGNED = {0x03: 8, 0x08: 1, 0x0A: 2, 0x0C: 4, 0x0E: 8}
_SIGNED = {0x09: 1, 0x0B: 2, 0x0D: 4, 0x0F: 8}
#: operators whose operands have signs: div, shra, ge, gt, le, lt
_OF_SIGNED = frozenset((0x1B, 0x26, 0x2A, 0x2B, 0x2C, 0x2D))
_UNARY: dict[int, Callable[[int], int]] = {0x19: lambda a: abs(_signed(a)), 0x1F: lambda a: -a, 0x20: lambda a: ~a}
_BINARY: dict[int, Callable[[int, int], int]] = {
    0x1A: lambda a, b: a & b,
    0x1B: _divide,
    0x1C: lambda a, b: a - b,
    0x1D: _modulo,
    0x1E: lambda a, b: a * b,
    0x21: lambda a, b: a | b,
    0x22: lambda a, b: a + b,
    0x24: lambda a, b: a << b if b < 64 else 0,
    0x25: lambda a, b: a >> b,
    0x26: lambda a, b: _signed(a) >> min(b, 63),
    0x27: lambda a, b: a ^ b,
    0x29: lambda a, b: int(a == b),
    0x2A: lambda a, b: int(_signed(a) >= _signed(b)),
    0x2B: lambda a, b: int(_signed(a) > _signed(b)),
    0x2C: lambda a, b: int(_signed(a) <= _signed(b)),
    0x2D: lambda a, b: int(_signed(a) < _signed(b)),
    0x2E: lambda a, b: int(a != b),
}
