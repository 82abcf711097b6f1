"""The loss ledger: everything that was not seen, by kind and place.

=========  =======================================================  =========================
kind       what                                                     counted by
=========  =======================================================  =========================
ring       an event found the buffer full                           the program
map        a map was full                                           the program
scratch    no scratch memory was free                               the program
stack      the kernel had no memory to walk a stack                 the program
cut        stacks that were deeper than the kernel allows           the session
truncated  copied stacks that go on beyond what was copied          the session
lost       copied stacks that could not be followed to their end    the session
late       processes that were met before they were known           the session
threads    threads that were not found among 256                    the program
reused     code objects in whose place others were found            the session
mappings   what processes have mapped was not noted                 the session
perfbuf    a per-CPU buffer was full (kernels without ring buffer)  the kernel, per CPU
missed     a probe's hits that the kernel could not deliver         the kernel, per link
recursion  a program was already running on that CPU                the kernel, per program
unread     a record that no event of the program describes          the session
=========  =======================================================  =========================
"""

from __future__ import annotations

import struct

from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..compiler.unit import Unit
    from ..kernel.bpf import Map, Program

__all__ = ("Loss", "program_losses", "kernel_losses", "merged")


class Loss(Record):
    """``count`` things of one kind were lost; ``subject`` says where, in the user's words."""

    kind: str
    subject: str
    count: int


def program_losses(unit: Unit, map: Map | None) -> list[Loss]:
    """What the programs themselves counted in the map ``LOSS`` (slots in the order of ``unit.losses``)."""
    losses = []
    for slot, (kind, subject) in enumerate(unit.losses):
        raw = map.lookup(struct.pack("=I", slot)) if map is not None else None
        if raw is None:
            continue
        count = sum(struct.unpack(f"={len(raw) // 8}Q", raw[: len(raw) // 8 * 8]))
        if count:
            losses.append(Loss(kind, _subject(unit, kind, subject), count))
    return losses


def kernel_losses(unit: Unit, programs: dict[str, Program], missed: Iterable[tuple[str, int | None]]) -> list[Loss]:
    """What the kernel did not deliver: hits of probes that it ``missed``, and runs of programs that were running already."""
    losses = [Loss("missed", probe, count) for probe, count in missed if count]
    places = {program.name: program.attach for program in unit.spec.programs}
    for name, program in programs.items():
        count = program.info().recursion_misses
        if count:
            where = places.get(name) or ()
            subject = where[0].probe + (f" and {len(where) - 1} more" if len(where) > 1 else "") if where else name
            losses.append(Loss("recursion", subject, count))
    return losses


def merged(losses: Iterable[Loss]) -> tuple[Loss, ...]:
    """One entry per kind and subject, in order of appearance."""
    sums: dict[tuple[str, str], int] = {}
    for loss in losses:
        sums[loss.kind, loss.subject] = sums.get((loss.kind, loss.subject), 0) + loss.count
    return tuple([Loss(kind, subject, count) for (kind, subject), count in sums.items()])


def _subject(unit: Unit, kind: str, subject: Any) -> str:
    if kind == "ring" and str(subject).isdigit() and int(subject) < len(unit.events):
        event = unit.events[int(subject)]
        return f"{event.action} at {event.position}" if event.position else event.action
    return str(subject)
