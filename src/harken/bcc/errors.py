"""Errors as BCC's scripts expect them: ``Exception`` with BCC's words, then the reason.

What BCC writes to standard error beside the exception (clang's diagnostics, the verifier's log), is written there too: the source line,
the rule that was broken and what to do instead.
"""

from __future__ import annotations

import os
import sys

from ..base.errors import HarkenError, KernelError, SourceError, VerifierError

__all__ = ("BPFError", "NoTableError", "attach_error", "compile_error", "load_error", "no_offload", "say")


class BPFError(Exception):
    """An error that a script did not cause by itself; a run by ``python -m harken.bcc`` shows its text and no traceback."""


class NoTableError(BPFError, KeyError):
    """A program has no table of this name; scripts catch ``KeyError``."""

    def __init__(self, name: str, names: tuple[str, ...]) -> None:
        from ..base.diagnostics import nearest

        super().__init__(name)
        near = nearest(name, names)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(names)}" if names else "it has none"
        self._text = f"the program has no table {name!r} ({hint})"

    def __str__(self) -> str:
        return self._text


def say(text: str) -> None:
    """Writes a message to standard error."""
    try:
        sys.stdout.flush()
        sys.stderr.write(text + "\n")
    except (OSError, ValueError):
        pass


def reason(error: HarkenError) -> str:
    """Message and hint in one line."""
    return error.message + (f" ({error.hint})" if error.hint else "")


def compile_error(error: Exception, name: str) -> BPFError:
    """A program that does not compile; tells where and why on standard error.

    An error that is none of harken's own is a fault of the compiler: it passes through if HARKEN_DEBUG is set.
    """
    if isinstance(error, HarkenError):
        from ..render.diagnostic import error_text

        say(error_text(error))
    elif os.environ.get("HARKEN_DEBUG"):
        raise error
    else:
        say(
            f"ERROR: internal error: {type(error).__name__}: {error}\n"
            "HINT: this is a fault of harken; HARKEN_DEBUG=1 shows where it happened: please report it"
        )
    return BPFError(f"Failed to compile BPF module {name}")


#: what to change in C; for other entries of the table the hint that they have serves
_HINTS = {
    "scalar_deref": "copy it first: bpf_probe_read_kernel() reads the kernel's memory, bpf_probe_read_user() a process's; "
    "a ring buffer's record is gone once it is submitted",
    "user_deref": "copy it first: bpf_probe_read_user(&copy, sizeof(copy), pointer)",
    "argument_type": "pass the address of a variable (&x), and the arguments in the function's order",
    "stack_uninitialised": "initialise the whole variable, padding included ({} does), and pass no larger size than it has",
    "pointer_math": "convert the pointer to a number first: (u64)p",
    "gpl_only": "write #define BPF_LICENSE GPL",
    "back_edge": "write #pragma unroll before the loop, and give it a constant bound",
    "record_used_again": "a record may not be touched after ringbuf_submit() or ringbuf_discard()",
}


def load_error(error: HarkenError, function: str, whole: bool = False) -> BPFError:
    """A program that the kernel refuses.

    Args:
        whole: with the verifier's whole log.
    """
    from ..render.diagnostic import error_text

    name = function.encode()
    if isinstance(error, SourceError):
        return compile_error(error, f"<text>: {function}()")
    if isinstance(error, VerifierError):
        if error.key in _HINTS:
            error.hint = _HINTS[error.key]
            if error.diagnostic is not None:
                error.diagnostic = error.diagnostic.replace(hint=error.hint)
        say(error_text(error, whole).replace("-v shows the verifier's whole log", "debug=DEBUG_BPF shows the verifier's whole log"))
        return BPFError(f"Failed to load BPF program {name!r}: {os.strerror(error.errno)}")
    if isinstance(error, KernelError) and error.errno == 1 and os.geteuid() != 0:
        return BPFError("Need super-user privileges to run")
    return BPFError(f"Failed to load BPF program {name!r}: {reason(error)}")


def attach_error(what: str, error: HarkenError) -> BPFError:
    """An attachment that failed: BCC's sentence, then why."""
    return BPFError(f"{what}: {reason(error)}")


def no_offload(device: str | bytes) -> str:
    """Why nothing runs on a network device."""
    name = os.fsdecode(device)
    there = os.path.exists(f"/sys/class/net/{name}")
    why = "harken does not offload programs to network devices: leave `device` out, and the kernel runs them"
    return why if there else f"there is no network device {name!r} (and {why})"
