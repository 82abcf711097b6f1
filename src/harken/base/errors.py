"""Every error that harken raises on purpose, in one tree.

::

    HarkenError                 message, hint, exit_code
    ├── UsageError              the command line or an API argument is wrong                    exit 2
    ├── SourceError             a program does not compile: carries diagnostics with spans      exit 1
    ├── FormatError             bytes from a file, the network or /proc are not what they claim exit 1
    ├── ProbeError              a probe does not exist, or no mechanism here can attach it      exit 1
    ├── LimitError              a documented limit was reached (stack, map size, probes)        exit 1
    ├── LossError               ``--strict``: events were lost                                  exit 3
    └── KernelError             the kernel refused: call, errno                                 exit 1
        └── VerifierError       the BPF verifier refused: log, explanation                      exit 1

An error never prints and never exits; whoever owns the terminal renders it and uses ``exit_code``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .diagnostics import Diagnostic

__all__ = (
    "HarkenError",
    "UsageError",
    "SourceError",
    "FormatError",
    "ProbeError",
    "LimitError",
    "LossError",
    "KernelError",
    "VerifierError",
)


class HarkenError(Exception):
    """Base of all errors.

    Args:
        message: one sentence in the user's terms, without a final full stop.
        hint: what to do about it, or "".
    """

    exit_code = 1
    _hint = ""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def hint(self) -> str:
        """What to do about it; also a note, which a traceback of a program that uses the library shows."""
        return self._hint

    @hint.setter
    def hint(self, text: str) -> None:
        others = [note for note in getattr(self, "__notes__", ()) if note != f"HINT: {self._hint}"]
        self._hint = text
        self.__notes__ = [*others, f"HINT: {text}"] if text else others

    def __str__(self) -> str:
        return self.message


class UsageError(HarkenError):
    """The command line, or an argument of a library call, is wrong."""

    exit_code = 2


class SourceError(HarkenError):
    """A program does not compile.

    Args:
        diagnostics: at least one; the first error's message is the exception's message.
    """

    def __init__(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        first = next((d for d in diagnostics if d.severity == "error"), diagnostics[0])
        super().__init__(first.message, first.hint)
        self.diagnostics = diagnostics


class FormatError(HarkenError):
    """Bytes are not what they claim to be.

    Args:
        what: the thing that was read ("BTF /sys/kernel/btf/vmlinux").
        problem: what is wrong with it.
        offset: byte offset of the problem, or None.
    """

    def __init__(self, what: str, problem: str, offset: int | None = None, hint: str = "") -> None:
        place = "" if offset is None else f" at byte {offset:#x}"
        super().__init__(f"{what}: {problem}{place}", hint)
        self.what = what
        self.offset = offset


class ProbeError(HarkenError):
    """A probe does not exist, or nothing on this kernel can attach it."""


class LimitError(HarkenError):
    """A documented limit was reached."""


class LossError(HarkenError):
    """Events were lost although the caller asked for none to be (``--strict``)."""

    exit_code = 3


class KernelError(HarkenError):
    """The kernel refused a call.

    Args:
        call: the call in the form that strace would print ("bpf(BPF_MAP_CREATE, ...)").
        errno: the positive errno.

    Attributes:
        program: the BPF program that was refused, if it was one.
        mechanism: the way of attaching that was refused, if it was one (see ``session.fallback``).
        diagnostic: the place in the user's own text that the kernel objects to, where it is known.
    """

    program = ""
    mechanism = ""
    diagnostic: Diagnostic | None = None

    def __init__(self, message: str, *, call: str = "", errno: int = 0, hint: str = "") -> None:
        super().__init__(message, hint)
        self.call = call
        self.errno = errno


class VerifierError(KernelError):
    """The BPF verifier refused a program.

    ``message`` is the short explanation; ``log`` is the verifier's whole text; ``diagnostic`` points at the user's source
    where the line is known; ``key`` names the explanation in the table of ``kernel.verifier_messages``.
    """

    def __init__(
        self,
        message: str,
        *,
        log: str,
        errno: int = 0,
        hint: str = "",
        program: str = "",
        diagnostic: Diagnostic | None = None,
        key: str = "",
    ) -> None:
        super().__init__(message, call="bpf(BPF_PROG_LOAD)", errno=errno, hint=hint)
        self.key = key
        self.log = log
        self.program = program
        self.diagnostic = diagnostic
