"""Why the BPF verifier refused a program, in the user's terms.

The verifier's log ends with one or a few lines that say what is wrong, after the instructions of the path on which it is.
``explain`` finds them in the table of known messages (``kernel.verifier_messages``) and says what happened, which rule forbids it
and what to change.  It points to the user's line: by the comments that the kernel writes for programs with line_info
(``; text``, since Linux 6.9 ``; text @ file:line``), or by the program's own line_info.

The explanation is short; the whole log stays in the error.

Example:
    >>> log = "0: (b7) r1 = 0\\n; $x = *$p @ demo.bt:3\\n1: (79) r2 = *(u64 *)(r1 +0)\\nR1 invalid mem access 'scalar'\\nprocessed 2 insns"
    >>> found = explain(log)
    >>> found.key, found.insn, found.position, found.message
    ('scalar_deref', 1, 'demo.bt:3', 'a plain number is used as a pointer')
"""

from __future__ import annotations

from ..base.diagnostics import Diagnostic, Source
from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re

    from ..formats.spec import ProgramSpec

__all__ = ("Explanation", "describe_register", "explain")

#: lines of the end of a log that may say what is wrong
_TAIL = 12
#: lines that come after the reason
_STATISTICS = ("processed ", "verification time ", "stack depth ", "max_states_per_insn ", "mark_read ", "peak_states ")


class Explanation(Record):
    """What a log means.

    Attributes:
        key: entry of the table ("null_deref"), "" if the message is not known.
        message: what happened, in the user's terms; the verifier's own words if they are not known.
        rule: the rule that was broken.
        hint: what to change.
        said: the line of the log that decided.
        insn: index of the refused instruction, -1 if unknown; ``instruction`` is its text.
        known: what the verifier knew of the register in question ("" if nothing is in the log).
        file, line, text: the source line, where known.
        diagnostic: the same as a value for ``render.diagnostic``; its source holds only the line in question.
    """

    key: str
    message: str
    rule: str
    hint: str
    said: str
    insn: int = -1
    instruction: str = ""
    known: str = ""
    file: str = ""
    line: int = 0
    text: str = ""
    diagnostic: Diagnostic | None = None

    @property
    def position(self) -> str:
        """ "file:line", or "" if the line is unknown."""
        return f"{self.file}:{self.line}" if self.line else ""


def explain(log: str, program: ProgramSpec | None = None, btf: bytes = b"") -> Explanation:
    """Explains a verifier's log.

    Args:
        log: the text as the kernel wrote it (level 1 or 2; it may be cut at its beginning).
        program: the refused program; its line_info names source lines where the log does not.
        btf: the BTF that ``line_info`` refers to.
    """
    lines = log.splitlines()
    tail = _reason_lines(lines)
    insn, instruction = _last_instruction(lines)
    found = _match(tail)
    if found is None:
        said = tail[-1] if tail else ""
        key, rule, known = "", "", ""
        message = f"it says: {said}" if said else "it does not say why"
        hint = "the whole log tells more" if lines else ""
    else:
        entry, match, said = found
        key, _, what, rule, hint = entry
        groups = {name: value or "" for name, value in match.groupdict().items()}
        for name, value in list(groups.items()):
            # reg, reg2, reg3: alternatives of one pattern
            if name[-1].isdigit() and value:
                groups[name[:-1]] = value
        if insn < 0 and groups.get("insn", "").isdigit():
            insn = int(groups["insn"])
        register = groups.get("reg", "")
        known = _known(lines, register) if register else ""
        groups["known"] = describe_register(known) if known else "nothing is known of it"
        groups["argument"] = register[1:]
        if "expected" in groups:
            groups["got"], groups["expected"] = _kind(groups["got"]), _kinds(groups["expected"])
        message, hint = what.format_map(groups), hint.format_map(groups)
        rule = rule.format_map(groups)
    file, line, column, text = _source_line(lines)
    if program is not None and btf and program.line_info:
        # the program's own records know the column as well
        file, line, column, text = _from_line_info(program, btf, insn) or (file, line, column, text)
    diagnostic = None
    if line:
        # a source of blank lines but the one that we know: positions and carets come out right
        source = Source(file or "program", "\n" * (line - 1) + text)
        start = line - 1 + max(0, column - 1)
        diagnostic = Diagnostic("error", message, source.span(start, len(source.text)), hint)
    return Explanation(key, message, rule, hint, said, insn, instruction, known, file, line, text, diagnostic)


def _reason_lines(lines: list[str]) -> list[str]:
    """The last lines of the log that are neither statistics nor instructions, oldest first."""
    found: list[str] = []
    for line in reversed(lines):
        text = line.strip()
        if not text or text.startswith(_STATISTICS):
            continue
        if _is_instruction(text) or text.startswith(";") or len(found) >= _TAIL:
            break
        found.append(text)
    if not found:
        # the walk over the program's shape prints no instructions before it complains; nothing else is left then
        found = [line.strip() for line in lines[-_TAIL:] if line.strip() and not line.startswith(_STATISTICS)]
        return found
    found.reverse()
    return found


def _is_instruction(text: str) -> bool:
    """Whether a line is "12: (79) r1 = ..." or a state "12: R0=... ", or "from 5 to 7: ..."."""
    number, colon, _ = text.partition(":")
    return bool(colon) and (number.isdigit() or number.startswith("from "))


def _last_instruction(lines: list[str]) -> tuple[int, str]:
    for line in reversed(lines):
        number, colon, rest = line.strip().partition(": (")
        if colon and number.isdigit():
            return int(number), rest[4:].partition(";")[0].strip() if rest[2:3] == ")" else rest
    return -1, ""


def _source_line(lines: list[str]) -> tuple[str, int, int, str]:
    """(file, line, column, text) of the last source comment before the refused instruction; zeros if there is none."""
    for line in reversed(lines):
        if line.startswith("; "):
            text, at, place = line[2:].rpartition(" @ ")
            file, colon, number = place.rpartition(":")
            if at and colon and number.isdigit():
                return file, int(number), 1, text
            return "", 0, 0, line[2:]
    return "", 0, 0, ""


def _from_line_info(program: ProgramSpec, btf: bytes, insn: int) -> tuple[str, int, int, str] | None:
    """(file, line, column, text) of an instruction by struct bpf_line_info: insn_off, file_name_off, line_off, line << 10 | column."""
    from struct import unpack_from

    best = None
    for at in range(0, len(program.line_info) - 15, 16):
        record = unpack_from("=IIII", program.line_info, at)
        if record[0] <= max(insn, 0):
            best = record
        else:
            break
    if best is None or len(btf) < 24:
        return None
    header, start, length = unpack_from("=I", btf, 4)[0], *unpack_from("=II", btf, 16)
    strings = btf[header + start : header + start + length]
    _, file, text, place = best
    return _string(strings, file), place >> 10, place & 0x3FF, _string(strings, text)


def _string(strings: bytes, offset: int) -> str:
    return strings[offset : strings.find(b"\0", offset)].decode("utf-8", "replace")


def _match(tail: list[str]) -> tuple[tuple[str, str, str, str, str], re.Match[str], str] | None:
    """The first entry of the table that knows one of the lines.  Earlier lines are more telling than later ones, but among all lines an
    entry that stands earlier in the table is preferred only within the same line."""
    import re

    from .verifier_messages import MESSAGES

    for line in tail:
        for entry in MESSAGES:
            match = re.match(entry[1], line)
            if match:
                return entry, match, line
    return None


def _known(lines: list[str], register: str) -> str:
    """The last state of a register in the log ("scalar(umax=255)"), "" if there is none.

    States are written as ``R1=ctx() R2_w=scalar(...)``: ``_w`` means written on this path, ``_r`` read.
    """
    for line in reversed(lines):
        at = len(line)
        while at > 0:
            at = line.rfind(register, 0, at)
            if at < 0:
                break
            rest = line[at + len(register) :]
            name, equals, state = rest.partition("=")
            if equals and name in ("", "_w", "_r", "_rw", "_P", "_w_P") and (at == 0 or line[at - 1] in " ;"):
                return _balanced(state)
    return ""


def _balanced(state: str) -> str:
    """The state up to the first blank outside of brackets."""
    depth = 0
    for index, character in enumerate(state):
        depth += (character == "(") - (character == ")")
        if character == " " and depth <= 0:
            return state[:index]
    return state


#: state of a register in the log -> words
_KINDS = {
    "ctx": "a pointer to the context",
    "fp": "a pointer to the stack",
    "map_ptr": "a map",
    "map_value": "a pointer to a map value",
    "map_value_or_null": "a pointer to a map value that may be null",
    "map_key": "a pointer to a map key",
    "mem": "a pointer to memory",
    "mem_or_null": "a pointer to memory that may be null",
    "ringbuf_mem": "a pointer to a ring record",
    "ringbuf_mem_or_null": "a pointer to a ring record that may be null",
    "rdonly_mem": "a pointer to read-only memory",
    "alloc_mem": "a pointer to a ring record",
    "alloc_mem_or_null": "a pointer to a ring record that may be null",
    "rcu_ptr": "a pointer to a kernel struct",
    "trusted_ptr": "a pointer to a kernel struct",
    "untrusted_ptr": "an untrusted pointer to a kernel struct",
    "ptr": "a pointer to a kernel struct",
    "pkt": "a pointer into the packet",
    "pkt_end": "the end of the packet",
}


def describe_register(state: str) -> str:
    """A register's state in words.

    >>> describe_register("scalar(umin=1,umax=255,var_off=(0x0; 0xff))")
    'a number from 1 to 255'
    >>> describe_register("map_value_or_null(id=1,off=0,ks=4,vs=8)")
    'a pointer to a map value that may be null'
    >>> describe_register("inv7"), describe_register("fp-8"), describe_register("scalar()")
    ('the number 7', 'a pointer to the stack at -8', 'any number')
    """
    kind, _, inside = state.partition("(")
    for name in ("scalar", "inv", "P", "Pscalar", ""):
        number = kind[len(name) :]
        if kind.startswith(name) and number.lstrip("-")[:1].isdigit():
            return f"the number {_plain(number)}"
    if kind in ("scalar", "inv", "Pscalar"):
        values: dict[str, str] = {}
        for part in inside.rstrip(")").split(","):
            # since 6.8 equal bounds are written once: "smin=umin=1"
            *names, value = part.split("=")
            values.update({name: value for name in names})
        low = values.get("umin", values.get("umin_value", values.get("smin", values.get("smin_value", ""))))
        high = values.get("umax", values.get("umax_value", values.get("smax", values.get("smax_value", ""))))
        signed = "umax" not in values and "umax_value" not in values
        if high and low == high:
            return f"the number {_plain(high)}"
        if high and (low or not signed):
            return f"a number from {_plain(low or '0')} to {_plain(high)}"
        if low:
            return f"a number of at least {_plain(low)}"
        return f"a number of at most {_plain(high)}" if high else "any number"
    if kind.startswith("fp"):
        return f"a pointer to the stack at {kind[2:]}" if kind[2:] else "a pointer to the stack"
    name = kind
    for prefix in ("rcu_ptr_", "trusted_ptr_", "untrusted_ptr_", "ptr_"):
        if kind.startswith(prefix):
            maybe = kind.endswith("or_null_" + kind.rpartition("or_null_")[2]) and "or_null_" in kind
            struct = kind[len(prefix) :].removeprefix("or_null_")
            return f"{_KINDS[prefix[:-1]]} ({struct})" + (" that may be null" if maybe else "")
    return _KINDS.get(name, state)


def _kind(state: str) -> str:
    """What an argument of a call is."""
    return "a number" if state in ("scalar", "inv") else describe_register(state)


def _kinds(states: str) -> str:
    """What an argument of a call may be.

    >>> _kinds("fp, pkt, pkt_meta, map_key, map_value, mem"), _kinds("ctx")
    ("the address of the program's own memory", 'a pointer to the context')
    """
    names = states.split(", ")
    if "fp" in names and "map_value" in names:
        return "the address of the program's own memory"
    return " or ".join(dict.fromkeys(_kind(name.strip()) for name in names[:4]))


def _plain(number: str) -> str:
    """A number in decimal; recent kernels write large ones in hexadecimal."""
    try:
        return str(int(number, 0))
    except ValueError:
        return number
