"""When the kernel refuses a mechanism only as it is used: the program is compiled again without that mechanism.

Whether a mechanism works is asked before (``kernel.features``), but some refusals depend on the function: an fentry program cannot be
bound to it, a kprobe lands on an instruction that may not be replaced.  As long as nothing has run yet, the planner's next choice is
taken, and the user is told.
"""

from __future__ import annotations

from ..base.errors import KernelError, SourceError, VerifierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.errors import HarkenError
    from ..compiler.unit import Unit

__all__ = ("another", "next_without", "notice")


def another(error: HarkenError, mechanism: str, avoided: tuple[str, ...], code: bool = False) -> tuple[str, ...]:
    """The mechanisms to avoid at the next attempt, () if the error is final.

    Args:
        error: the refusal.
        mechanism: what was tried, "" if it did not come to that.
        avoided: what was avoided already.
        code: try again even if the verifier refused the program's instructions.  The next mechanism may allow more (only kprobes may
            override what a function returns), but mostly it is refused again.
    """
    if not mechanism or mechanism in avoided or isinstance(error, SourceError):
        return ()
    if not code and isinstance(error, VerifierError) and _looked_at_code(error.log):
        return ()  # the program itself is wrong: it would be refused again
    return (*avoided, mechanism)


def next_without(unit: Unit, error: KernelError, avoided: tuple[str, ...]) -> tuple[str, ...]:
    """The mechanisms to avoid at the next attempt, () if the error is final.

    Args:
        unit: what was refused.
        error: the refusal.
        avoided: what was avoided already.
    """
    avoid = another(error, error.mechanism, avoided)
    for _probe, chosen, _reason, rejected in unit.plan:
        if avoid and chosen == error.mechanism and any([why.startswith("not needed") for _name, why in rejected]):
            return avoid
    return ()


def _looked_at_code(log: str) -> bool:
    """Whether the verifier had begun with the program's instructions."""
    at = log.rfind("processed ")
    return at >= 0 and not log.startswith("processed 0 ", at)


def notice(error: KernelError) -> str:
    """What the user is told."""
    return f"{error.mechanism} was refused ({error.message.partition(chr(10))[0]}); the next mechanism is tried"
