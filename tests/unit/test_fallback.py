"""session.fallback: which refusals are final."""

from __future__ import annotations

from harken.base.diagnostics import error
from harken.base.errors import KernelError, SourceError, VerifierError
from harken.compiler.unit import Unit
from harken.session.fallback import another, next_without


def refusal(mechanism: str) -> KernelError:
    made = KernelError("no", errno=22)
    made.mechanism = mechanism
    return made


LOOKED, UNSEEN = "0: r0 = 1\nprocessed 3 insns (limit 1000000)", "attach target is wrong\nprocessed 0 insns (limit 1000000)"


def test_a_refused_mechanism_is_avoided_once() -> None:
    assert another(KernelError("no"), "fentry", ()) == ("fentry",)
    assert another(KernelError("no"), "kprobe_multi", ("fentry",)) == ("fentry", "kprobe_multi")
    assert another(KernelError("no"), "fentry", ("fentry",)) == ()
    assert another(KernelError("no"), "", ()) == ()
    assert another(SourceError((error("wrong", None),)), "fentry", ()) == ()


def test_a_program_that_is_wrong_stays_wrong() -> None:
    assert another(VerifierError("no", log=LOOKED), "fentry", ()) == ()
    assert another(VerifierError("no", log=LOOKED), "fentry", (), code=True) == ("fentry",)
    assert another(VerifierError("no", log=UNSEEN), "fentry", ()) == ("fentry",)


def test_only_if_another_mechanism_is_left() -> None:
    plan = (("kprobe:f", "fentry", "", (("kprobe_perf", "not needed: fentry serves"),)), ("kprobe:g", "kprobe_perf", "", ()))
    unit = Unit(None, plan=plan)  # type: ignore[arg-type]
    assert next_without(unit, refusal("fentry"), ()) == ("fentry",)
    assert next_without(unit, refusal("kprobe_perf"), ()) == ()
