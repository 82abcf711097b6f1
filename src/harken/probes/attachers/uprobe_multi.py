"""``uprobe_multi``: one link for any number of places of one file (Linux 6.6), with a PID filter and USDT semaphores.

Hundreds of places are attached in some 10 ms and detached in some 20 ms.  The kernel takes all places or none.  So when it refuses a
batch because of some instructions that it cannot probe, the batch is halved until they are found; they are named in ``skipped``.
"""

from __future__ import annotations

from ...abi import bpf as abi
from ...base.errors import KernelError
from ...formats.spec import AttachSpec
from .base import Base, Handles, batch_name
from .uprobe_perf import explained, place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...kernel.bpf import Program
    from ...kernel.kernel import Kernel
    from ...kernel.link import BpfLink
    from ..model import AttachOptions, Probe

__all__ = ("ATTACHERS",)

#: Refusals that are about one place: ENOTSUPP, EOPNOTSUPP, EINVAL, EIO.
_ONE = frozenset((524, 95, 22, 5))

#: Refused places per batch after which the kernel is believed to refuse all.
_MOST_SKIPPED = 64


class UprobeMulti(Base):
    name = "uprobe_multi"
    program_type = abi.BPF_PROG_TYPE_KPROBE
    attach_type = abi.BPF_TRACE_UPROBE_MULTI
    context = "pt_regs"
    multi = True
    cookies = True
    needs = ("uprobe_multi",)
    filters_pid = True

    def places(self, probes: tuple[Probe, ...], catalogue: Any) -> tuple[AttachSpec, ...]:
        """One batch per file and direction: (return probes?, path, file offsets, file offsets of semaphores or (), cookies)."""
        batches: dict[tuple[bool, str], list[tuple[int, Probe]]] = {}
        for number, probe in enumerate(probes):
            batches.setdefault(place_of(probe)[:2], []).append((number, probe))
        made = []
        for (returns, path), batch in batches.items():
            found = [place_of(probe) for _, probe in batch]
            semaphores = tuple(semaphore for _, _, _, semaphore in found)
            cookies = tuple(number for number, _ in batch)
            target = (returns, path, tuple(offset for _, _, offset, _ in found), semaphores if any(semaphores) else (), cookies)
            made.append(AttachSpec(batch_name(tuple(probe for _, probe in batch)), self.name, target))
        return tuple(made)

    def attach(self, kernel: Kernel, program: Program, place: AttachSpec, options: AttachOptions) -> Handles:
        _, path, offsets, semaphores, *more = place.target
        cookies = more[0] if more else (0,) * len(offsets)
        links: list[BpfLink] = []
        skipped: list[str] = []
        pairs = tuple(zip(offsets, semaphores or (0,) * len(offsets), cookies))
        try:
            _attach(kernel, program, place.target[:2], pairs, max(options.pid, 0), links, skipped)
            if not links:
                # every one was refused on its own: say why by asking for the first again
                _attach(kernel, program, place.target[:2], pairs[:1], max(options.pid, 0), links, None)
        except KernelError as error:
            for link in links:
                link.close()
            raise explained(error, place.probe) from None
        return Handles(links, skipped=tuple(skipped))


def _attach(
    kernel: Kernel,
    program: Program,
    where: tuple[bool, str],
    places: tuple[tuple[int, int, int], ...],
    pid: int,
    links: list[BpfLink],
    skipped: list[str] | None,
) -> None:
    """Links the places, or those of them that the kernel takes; the others are added to ``skipped`` (None: raise at once)."""
    from ...kernel.link import uprobe_multi_link

    returns, path = where
    offsets, semaphores, cookies = (tuple(column) for column in zip(*places))
    try:
        counters = semaphores if any(semaphores) else ()
        links.append(uprobe_multi_link(kernel, program, path, offsets, counters, cookies if any(cookies) else (), pid, returns))
        return
    except KernelError as error:
        if error.errno not in _ONE or skipped is None:
            raise
        if len(places) == 1:
            skipped.append(f"{path}:{offsets[0]:#x}")
            if len(skipped) > _MOST_SKIPPED:
                raise
            return
    middle = len(places) // 2
    _attach(kernel, program, where, places[:middle], pid, links, skipped)
    _attach(kernel, program, where, places[middle:], pid, links, skipped)


ATTACHERS = (UprobeMulti(),)
