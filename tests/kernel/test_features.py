"""Features on a live kernel: nothing is left behind, and independent evidence agrees."""

from __future__ import annotations

import pytest

from harken.kernel.config import config_of
from harken.kernel.features import Features, all_names
from harken.kernel.features.options import OPTIONS
from harken.kernel.kernel import live
from harken.kernel.procfs import uname
from harken.probes.doctor_tables import SINCE, brought_by

pytestmark = pytest.mark.kernel

_asked: dict[str, object] = {}


def answers():
    if not _asked:
        _asked.update(Features(live(), cached=False).answers(all_names()))
    return _asked


def test_every_feature_is_answered():
    """With a reason for each "no"; what a probe leaves open is found out by the check that all tests have (``_no_fd_leaks``)."""
    found = answers()
    assert found["bpf"].state == "yes"
    for name, answer in found.items():
        assert answer.state == "yes" or answer.reason, name


def test_a_configured_kernel_is_never_told_to_be_rebuilt():
    config = config_of(live())
    if not config.source:
        pytest.skip("the kernel's configuration cannot be read")
    for name, answer in answers().items():
        if answer.cause.startswith("config:"):
            for option in answer.cause[7:].split(","):
                assert config.enabled(option) is False, (name, option)
        options = OPTIONS.get(name, ())
        if answer.state == "yes" and options:
            known = [option for option in options if config.mentions(option)]
            assert all(config.enabled(option) for option in known), (name, known)


def test_kernels_have_what_their_version_brought():
    """The versions in the doctor's table are documentation: here they are checked."""
    words = uname(live()).release.split(".")
    version = (int(words[0]), int(words[1].split("-")[0]))
    for name in SINCE:
        answer = answers()[name]
        brought = tuple(int(word) for word in brought_by(name, live().machine).split("."))
        if version >= brought:
            assert answer.cause != "kernel", (name, answer)
        else:
            assert answer.state != "yes", (name, answer)


def test_mechanisms_that_belong_together_agree():
    found = {name: answer.state for name, answer in answers().items()}
    assert found["fentry"] == found["fexit"]
    assert found["map:ringbuf"] == found["ringbuf"]
    if found["kprobe_session"] == "yes":
        assert found["kprobe_multi"] == "yes"
    if found["uprobe_session"] == "yes":
        assert found["uprobe_multi"] == "yes"
