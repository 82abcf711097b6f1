"""``kprobe_multi``: one link for any number of kernel functions (Linux 5.18, CONFIG_FPROBE); entry or return.

The kernel takes all functions or none.  So when it refuses a batch that a wildcard made, the batch is halved until the functions that
it does not want (``notrace``, gone with a module) are found; they are named in ``skipped``, the rest is attached.
"""

from __future__ import annotations

from ...abi import bpf as abi
from ...base.errors import KernelError
from ...formats.spec import AttachSpec
from .base import Base, Handles, batch_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...kernel.bpf import Program
    from ...kernel.kernel import Kernel
    from ...kernel.link import BpfLink
    from ..model import AttachOptions, Probe

__all__ = ("ATTACHERS",)

#: ESRCH, EINVAL, ENOENT, EADDRNOTAVAIL: a name is unknown, ambiguous or not traceable
_NAMES = frozenset((3, 22, 2, 99))

#: Refused functions per batch after which the kernel is believed to refuse all.
_MOST_SKIPPED = 64


class KprobeMulti(Base):
    name = "kprobe_multi"
    program_type = abi.BPF_PROG_TYPE_KPROBE
    attach_type = abi.BPF_TRACE_KPROBE_MULTI
    context = "pt_regs"
    multi = True
    cookies = True
    needs = ("kprobe_multi",)

    def refuses(self, probe: Probe, catalogue: Any, uses: frozenset[str]) -> str:
        _, function, offset = probe.name
        if not function:
            return "it traces functions, not addresses"
        if offset:
            return "it traces whole functions, not the instruction at an offset"
        from .tracing import untraceable

        return untraceable(probe, catalogue)

    def places(self, probes: tuple[Probe, ...], catalogue: Any) -> tuple[AttachSpec, ...]:
        """One batch per kind: (return probes?, functions, cookies)."""
        kinds: dict[str, list[tuple[int, Probe]]] = {}
        for number, probe in enumerate(probes):
            kinds.setdefault(probe.kind, []).append((number, probe))
        made = []
        for kind, batch in kinds.items():
            target = (kind == "kretprobe", tuple(probe.name[1] for _, probe in batch), tuple(number for number, _ in batch))
            made.append(AttachSpec(batch_name(tuple(probe for _, probe in batch)), self.name, target))
        return tuple(made)

    def attach(self, kernel: Kernel, program: Program, place: AttachSpec, options: AttachOptions) -> Handles:
        returns, functions, *more = place.target
        pairs = tuple(zip(functions, more[0] if more else (0,) * len(functions)))
        skipped: list[str] = []
        links: list[BpfLink] = []
        try:
            if len(functions) == 1:
                links.append(_link(kernel, program, pairs, returns))
            else:
                _attach(kernel, program, pairs, returns, links, skipped)
            if not links:
                # every one was refused on its own: say why by asking for the first again
                links.append(_link(kernel, program, pairs[:1], returns))
        except KernelError:
            for link in links:
                link.close()
            raise

        def missed() -> int | None:
            counts = [link.missed() for link in links]
            return None if None in counts else sum(count or 0 for count in counts)

        return Handles(links, missed, tuple(skipped))


def _link(kernel: Kernel, program: Program, pairs: tuple[tuple[str, int], ...], returns: bool) -> BpfLink:
    from ...kernel.link import kprobe_multi_link

    functions, cookies = tuple(name for name, _ in pairs), tuple(cookie for _, cookie in pairs)
    return kprobe_multi_link(kernel, program, functions, cookies=cookies if any(cookies) else (), retprobe=returns)


def _attach(
    kernel: Kernel, program: Program, pairs: tuple[tuple[str, int], ...], returns: bool, links: list[BpfLink], skipped: list[str]
) -> None:
    try:
        links.append(_link(kernel, program, pairs, returns))
        return
    except KernelError as error:
        if error.errno not in _NAMES:
            raise
        if len(pairs) == 1:
            skipped.append(pairs[0][0])
            if len(skipped) > _MOST_SKIPPED:
                raise
            return
    middle = len(pairs) // 2
    _attach(kernel, program, pairs[:middle], returns, links, skipped)
    _attach(kernel, program, pairs[middle:], returns, links, skipped)


ATTACHERS = (KprobeMulti(),)
