"""The kernel's build configuration: ``/proc/config.gz`` or a ``config-RELEASE`` file.

It explains why something is missing; it never decides whether something is there (``kernel.features`` tries).

The texts are treated as hostile: at most ``LIMIT`` bytes are decompressed and malformed lines are skipped.
"""

from __future__ import annotations

import zlib

from .procfs import uname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .kernel import Kernel

__all__ = ("Config", "parse_config", "config_of", "LIMIT")

#: Most bytes of configuration text that are looked at (Debian's has 270 kB).
LIMIT = 4 << 20


class Config:
    """Options by name, "CONFIG_" included.

    ``source`` is the file that was read; "" when none could be, and then every answer is None.
    """

    def __init__(self, values: dict[str, str], source: str) -> None:
        self.values = values
        self.source = source

    def value(self, name: str) -> str | None:
        """The option's value ("y", "m", a number, a string without quotes); "n" when it is not set, None when nothing is known."""
        if not self.source:
            return None
        return self.values.get(name, "n")

    def mentions(self, name: str) -> bool:
        """Whether the configuration has a line about the option.

        One that is not mentioned does not exist in this kernel, or another option that it depends on is not set.
        """
        return name in self.values

    def enabled(self, name: str) -> bool | None:
        """Whether the option is y or m; None when the configuration is not known."""
        value = self.value(name)
        return None if value is None else value in ("y", "m")


def parse_config(text: str) -> dict[str, str]:
    """The options that a configuration text mentions; those that are not set are "n".

    Example:
        >>> parse_config('CONFIG_BPF=y\\n# CONFIG_KPROBES is not set\\nCONFIG_LSM="landlock,bpf"\\n')
        {'CONFIG_BPF': 'y', 'CONFIG_KPROBES': 'n', 'CONFIG_LSM': 'landlock,bpf'}
    """
    values = {}
    for line in text.split("\n"):
        if line.startswith("CONFIG_"):
            name, equals, value = line.partition("=")
            if equals:
                values[name] = value[1:-1] if len(value) > 1 and value[0] == '"' == value[-1] else value
        elif line.startswith("# CONFIG_") and line.endswith(" is not set"):
            values[line[2:-11]] = "n"
    return values


def config_of(kernel: Kernel) -> Config:
    """The configuration of the running kernel, from the first place that has it; an empty one (``source`` "") if none has."""
    try:
        data = zlib.decompressobj(31).decompress(kernel.read("/proc/config.gz", LIMIT), LIMIT)
        return Config(parse_config(data.decode("ascii", "replace")), "/proc/config.gz")
    except (OSError, zlib.error):
        pass
    release = uname(kernel).release
    if not release or "/" in release:
        return Config({}, "")
    for path in (f"/boot/config-{release}", f"/lib/modules/{release}/config", f"/lib/modules/{release}/build/.config"):
        try:
            return Config(parse_config(kernel.read(path, LIMIT).decode("ascii", "replace")), path)
        except OSError:
            continue
    return Config({}, "")
