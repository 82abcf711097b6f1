"""When the kernel refuses a mechanism only as it is used: the program is compiled again without that mechanism.

Whether a mechanism works is asked before (``kernel.features``), but some refusals depend on the function: an fentry program cannot be
bound to it, a kprobe lands on an instruction that may not be replaced.  As long as nothing has run yet, the planner's next choice is
taken, and the user is told.
"""

from __future__ import annotations

from ..base.errors import KernelError, VerifierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..compiler.unit import Unit

__all__ = ("next_without", "notice")


def next_without(unit: Unit, error: KernelError, avoided: tuple[str, ...]) -> tuple[str, ...]:
    """The mechanisms to avoid at the next attempt, () if the error is final.

    Args:
        unit: what was refused.
        error: the refusal.
        avoided: what was avoided already.
    """
    mechanism = error.mechanism
    if not mechanism or mechanism in avoided:
        return ()
    if isinstance(error, VerifierError) and _looked_at_code(error.log):
        return ()  # the program itself is wrong: it would be refused again
    for _probe, chosen, _reason, rejected in unit.plan:
        if chosen == mechanism and any([why.startswith("not needed") for _name, why in rejected]):
            return (*avoided, mechanism)
    return ()


def _looked_at_code(log: str) -> bool:
    """Whether the verifier had begun with the program's instructions."""
    at = log.rfind("processed ")
    return at >= 0 and not log.startswith("processed 0 ", at)


def notice(error: KernelError) -> str:
    """What the user is told."""
    return f"{error.mechanism} was refused ({error.message.partition(chr(10))[0]}); the next mechanism is tried"
