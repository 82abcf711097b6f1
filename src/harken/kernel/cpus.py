"""Which CPUs there are."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .kernel import Kernel

__all__ = ("cpus_online", "cpus_possible", "parse_cpu_list")

_CPU_LIMIT = 8192  # NR_CPUS of the largest configuration of any architecture


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """CPU numbers of a list in the kernel's format ("cpulist" of bitmap_parselist), in order, without repetitions.

    Raises:
        ValueError: the text is not such a list, or names a CPU beyond 8191.

    Example:
        >>> parse_cpu_list("0-2,5,8-9\\n")
        (0, 1, 2, 5, 8, 9)
        >>> parse_cpu_list("")
        ()
    """
    found: set[int] = set()
    for part in text.strip().split(","):
        if not part:
            continue
        first, dash, last = part.partition("-")
        low = int(first)
        high = int(last) if dash else low
        if not 0 <= low <= high < _CPU_LIMIT:
            raise ValueError(f"not a list of CPUs: {text[:80]!r}")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def _cpus(kernel: Kernel, which: str) -> tuple[int, ...]:
    try:
        found = parse_cpu_list(kernel.read(f"/sys/devices/system/cpu/{which}", 1 << 20).decode("ascii"))
        if found:
            return found
    except (OSError, ValueError):
        pass
    # Without sysfs (some containers) /proc/cpuinfo still has one paragraph per CPU that is online.
    try:
        info = b"\n" + kernel.read("/proc/cpuinfo", 16 << 20)
    except OSError:
        info = b""
    return tuple(range(min(max(info.count(b"\nprocessor"), 1), _CPU_LIMIT)))


def cpus_online(kernel: Kernel) -> tuple[int, ...]:
    """The CPUs that run now (``/sys/devices/system/cpu/online``); at least one."""
    return _cpus(kernel, "online")


def cpus_possible(kernel: Kernel) -> tuple[int, ...]:
    """The CPUs that may ever run in this boot; per-CPU maps have one value for each number up to the last."""
    return _cpus(kernel, "possible")
