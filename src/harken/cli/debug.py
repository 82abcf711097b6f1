"""``-d STAGE``: what the compiler makes of a program, stage by stage, on standard output."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..compiler.unit import Unit
    from ..formats.spec import ProgramSpec, Spec

__all__ = ("show_spec", "show_unit", "observer", "show_logs")


def show_unit(unit: Unit, stages: tuple[str, ...]) -> None:
    """Shows the stages that a finished unit still tells: "spec" and "asm"."""
    if "spec" in stages:
        _section("spec", spec_text(unit))
    if "asm" in stages:
        _section("asm", asm_text(unit.spec))


def show_spec(spec: Spec, stages: tuple[str, ...]) -> None:
    """Shows the stages that a Spec tells: "spec" and "asm"."""
    if "spec" in stages:
        _section("spec", "\n".join(_spec_lines(spec)))
    if "asm" in stages:
        _section("asm", asm_text(spec))


def observer(stages: tuple[str, ...]) -> Callable[[str, object], None] | None:
    """What shows the stages on the way to a unit, "ast" and "ir", or None if neither is wanted."""

    def observe(stage: str, what: object) -> None:
        if stage in stages:
            _section(stage, str(what) if stage == "ir" else tree_text(what))

    return observe if "ast" in stages or "ir" in stages else None


def show_logs(logs: dict[str, str]) -> None:
    """Shows the verifier's log of each program."""
    _section("verifier", "\n".join([f"{name}:\n{log.rstrip()}" for name, log in logs.items()]))


def _section(name: str, text: str) -> None:
    print(f"\n{name.upper()}\n{'-' * len(name)}\n{text}", file=sys.stdout, flush=True)


def tree_text(node: object, indent: str = "", label: str = "") -> str:
    """A tree of records as indented lines; positions are left out."""
    from ..base.diagnostics import Span
    from ..base.record import Record

    head = f"{indent}{label}"
    if isinstance(node, Record):
        fields = {name: getattr(node, name) for name in type(node)._fields}
        plain = {name: value for name, value in fields.items() if not isinstance(value, (Record, tuple, list))}
        parts = [f"{name}={value!r}" for name, value in plain.items() if value not in (None, "", ())]
        lines = [f"{head}{type(node).__name__}" + (f" {' '.join(parts)}" if parts else "")]
        lines += [
            tree_text(value, indent + "  ", f"{name}: ")
            for name, value in fields.items()
            if name not in plain and not isinstance(value, Span) and value not in ((), [])
        ]
        return "\n".join(lines)
    if isinstance(node, (tuple, list)):
        return "\n".join([f"{head.rstrip()}", *[tree_text(item, indent + "  ") for item in node]])
    return f"{head}{node!r}"


def spec_text(unit: Unit) -> str:
    """Maps, programs and attach points of a unit."""
    lines = _spec_lines(unit.spec)
    for index, event in enumerate(unit.events):
        fields = ", ".join([f"{f.name}@{f.offset} {f.kind}{f.count if f.count > 1 else ''} {f.role}".rstrip() for f in event.schema.fields])
        lines.append(f"event {index}: {event.action} {event.args!r} ({fields})")
    for table in unit.tables:
        lines.append(f"table {table.name}: {table.kind} in {table.map}{', per CPU' if table.per_cpu else ''} {table.params or ''}".rstrip())
    lines += [f"loss {slot}: {kind} {subject}" for slot, (kind, subject) in enumerate(unit.losses)]
    return "\n".join(lines)


def _spec_lines(spec: Spec) -> list[str]:
    lines = []
    for map in spec.maps:
        lines.append(f"map {map.name}: type {map.type}, key {map.key_size}, value {map.value_size}, entries {map.max_entries}")
    for program in spec.programs:
        lines.append(f"program {program.name}: type {program.type}, {len(program.insns) // 8} instructions")
        lines += [f"  at {place.probe} by {place.mechanism} {place.target!r}" for place in program.attach]
    return lines


def asm_text(spec: Spec) -> str:
    """All programs, disassembled."""
    return "\n".join([_program_text(program) for program in spec.programs])


def _program_text(program: ProgramSpec) -> str:
    from ..formats.insn import disassemble

    notes = {reloc.insn: f"  ; {reloc.kind} {reloc.symbol}" + (f"+{reloc.addend}" if reloc.addend else "") for reloc in program.relocs}
    lines = [f"{program.name}:"]
    for line in disassemble(program.insns):
        number = line.partition(":")[0].strip()
        lines.append("  " + line + (notes.get(int(number), "") if number.isdigit() else ""))
    return "\n".join(lines)
