"""Masks of CPUs as tracefs takes them."""

from __future__ import annotations

from ..base.errors import UsageError
from .procfs import cpus_possible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .kernel import Kernel

__all__ = ("mask_text",)


def mask_text(kernel: Kernel, mask: str) -> str:
    """A hexadecimal mask in groups of 32 bits; -1 means all CPUs.

    Raises:
        UsageError: it is not a mask.
    """
    if mask == "-1":
        mask = f"{sum(1 << cpu for cpu in cpus_possible(kernel)):x}"
    digits = mask.removeprefix("0x").replace(",", "")
    if not digits or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
        raise UsageError(f"{mask!r} is not a mask of CPUs", "it is a hexadecimal number: 5 means CPUs 0 and 2")
    groups: list[str] = []
    while digits:
        groups.insert(0, digits[-8:])
        digits = digits[:-8]
    return ",".join(groups)
