"""``uprobe_perf``: one perf event of the uprobe PMU per place (Linux 4.17), with a PID filter and USDT semaphores.

The PID filter is the process's memory, so it covers all its threads (kernel: trace_uprobe.c, uprobe_perf_filter).  Closing takes some
100 ms per place, one after the other, whoever closes: the kernel waits for all CPUs with a lock held.  So this is for few places.
"""

from __future__ import annotations

from ...abi import bpf as abi
from ...base.errors import KernelError
from .base import Base, Handles, online

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...formats.spec import AttachSpec
    from ...kernel.bpf import Program
    from ...kernel.kernel import Kernel
    from ...kernel.perf_event import Attr
    from ..model import AttachOptions, Probe

__all__ = ("ATTACHERS", "explained", "place_of")

#: ENOTSUPP, which has no name outside of the kernel: the instruction cannot be stepped over elsewhere (arch_uprobe_analyze_insn).
_ENOTSUPP = 524
_REFUSALS = {
    _ENOTSUPP: ("the instruction there cannot be probed", "probe the instruction before or after it: FUNCTION+OFFSET"),
    22: (
        "the place is not the start of an instruction in a file's code, or its marker's semaphore is wrong",
        "check the offset with `objdump -d`",
    ),
    2: ("the file is gone", ""),
}


def place_of(probe: Probe) -> tuple[bool, str, int, int]:
    """(return probe?, path, file offset, file offset of the semaphore or 0) of a uprobe, uretprobe or usdt probe."""
    if probe.kind == "usdt":
        path, _, _, offset, semaphore, _ = probe.name
        return False, path, offset, semaphore
    path, _, _, offset = probe.name
    return probe.kind == "uretprobe", path, offset, 0


def explained(error: KernelError, probe: str) -> KernelError:
    """A refusal in the user's terms."""
    why, hint = _REFUSALS.get(error.errno, ("", ""))
    if not why:
        return error
    return KernelError(f"{probe} cannot be attached: {why} ({error.message})", call=error.call, errno=error.errno, hint=hint or error.hint)


class UprobePerf(Base):
    name = "uprobe_perf"
    program_type = abi.BPF_PROG_TYPE_KPROBE
    context = "pt_regs"
    needs = ("uprobe_perf",)
    filters_pid = True

    def __init__(self) -> None:
        # the PMU's numbers are read from sysfs once, not once per place
        self._model: tuple[Kernel, bool, Attr] | None = None

    def target(self, probe: Probe, catalogue: Any) -> tuple[Any, ...]:
        return place_of(probe)

    def _attr(self, kernel: Kernel, returns: bool, path: str, offset: int, semaphore: int) -> Attr:
        from ...kernel.perf_event import uprobe

        if semaphore:
            return uprobe(kernel, path, offset, returns, semaphore)
        model = self._model
        if model is None or model[0] is not kernel or model[1] is not returns:
            made = uprobe(kernel, path, offset, returns)
            self._model = (kernel, returns, made)
            return made
        return model[2].replace(probe=path, config2=offset)

    def attach(self, kernel: Kernel, program: Program, place: AttachSpec, options: AttachOptions) -> Handles:
        from ...kernel.perf_event import open_event

        returns, path, offset, semaphore = place.target
        attr = self._attr(kernel, returns, path, offset, semaphore)
        pid = options.pid
        event = None
        try:
            event = open_event(kernel, attr, pid, -1 if pid >= 0 else online(kernel)[0])
            event.set_bpf(program)
            event.enable()
        except KernelError as error:
            if event is not None:
                event.close()
            raise explained(error, place.probe) from None
        return Handles((event,))


ATTACHERS = (UprobePerf(),)
