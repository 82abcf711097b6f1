"""The doctor: no "no" without a reason and a remedy, whatever the machine; text and JSON of the same findings."""

from __future__ import annotations

import json

import pytest

from harken.cli.commands import doctor as command
from harken.kernel.features import NAMES, Answer, Features, all_names
from harken.probes import doctor_tables
from harken.probes.doctor import examine
from harken.probes.doctor_fixes import Patient, fix
from harken.render import doctor as render
from harken.testing.fake_kernel import FakeKernel

ALL = f"{(1 << 41) - 1:x}"


def machine(caps: str = ALL, uid: int = 0, **files) -> FakeKernel:
    return FakeKernel(
        {
            "/proc/self/status": f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{caps}\nSeccomp:\t0\n",
            "/proc/self/uid_map": "0 0 4294967295\n",
            "/proc/self/mounts": "n /s securityfs rw 0 0\n",
            "/s/lockdown": "none [integrity]\n",
            "/s/lsm": "lockdown,bpf\n",
            **files,
        }
    )


class Scripted(Features):
    """Features with given answers."""

    def __init__(self, kernel, given=None, default=None):
        super().__init__(kernel, cached=False)
        self.given, self.default = given or {}, default or Answer("yes", tried="try()")

    def _ask(self, name):
        return self.given.get(name, self.default)


def patient(kernel: FakeKernel, **given: Answer) -> Patient:
    answers = {name: Answer("no", "why", 1, "try()", "policy") for name in all_names()}
    return Patient(kernel, answers | given)


@pytest.mark.parametrize("kernel", [FakeKernel({}), machine(), machine("0", 1000), machine("0", 0)])
def test_every_no_has_a_reason_and_a_remedy(kernel):
    report = examine(kernel, Features(kernel))
    for section in report.sections:
        for finding in section.findings:
            assert finding.state in ("yes", "no", "unknown", "info"), finding
            if finding.state == "no" and finding.name != "capabilities":
                assert finding.reason and finding.fix, finding
    assert report.finding("fentry").state in ("no", "unknown")
    with pytest.raises(KeyError):
        report.finding("nosuch")


def test_tables_are_about_features_that_exist():
    shown = {name for _, _, names in doctor_tables.SECTIONS for name in names}
    assert shown <= set(NAMES) and set(NAMES) - shown <= {"perf_events"}
    assert shown <= set(doctor_tables.TITLES) <= set(NAMES)
    assert set(doctor_tables.SINCE) <= set(all_names())
    for name, choices in doctor_tables.INSTEAD.items():
        assert name in NAMES and all(other in NAMES for other, _ in choices)


def test_remedies_by_cause():
    root, user = machine(), machine("0", 1000)
    tracepoint = Answer("yes")

    def cured(name, cause, kernel=root, **given):
        return fix(name, Answer("no", "why", 1, "try()", cause), patient(kernel, **given))

    assert "CONFIG_A=y and CONFIG_B=y" in cured("kprobe_multi", "config:CONFIG_A,CONFIG_B")
    assert cured("kprobe_multi", "policy", tp_btf=tracepoint).startswith("cannot be changed from here: choose a tracepoint")
    assert "fentry:FUNCTION" in cured("kprobe_multi", "policy", fentry=tracepoint, tp_btf=tracepoint)
    assert "fentry" not in cured("fentry", "policy", fentry=tracepoint)
    assert "sudo" in cured("bpf", "capability:bpf,perfmon", user)
    assert "confined" in cured("bpf", "capability:bpf,perfmon", machine("0", 0))
    assert "sysctl -w kernel.perf_event_paranoid=" in cured("perf_software", "sysctl:kernel.perf_event_paranoid", user)
    assert "lockdown=integrity" in cured("fentry", "lockdown")
    assert "seccomp=unconfined" in cured("bpf", "seccomp")
    assert "host" in cured("perf_hardware", "hardware", perf_software=tracepoint)
    assert "lsm=lockdown,bpf" in cured("lsm", "bootparam:lsm=")
    assert "Linux 7.0" in cured("fsession", "kernel") and "newer kernel" in cured("map:rhash", "kernel")
    assert fix("fentry", Answer("yes"), patient(root)) == ""


def test_in_a_container_the_remedy_is_the_containers():
    kernel = machine("0", 0, **{"/run/.containerenv": ""})

    def readlink(call):
        target = b"pid:[4026533000]" if call.args[1].startswith(b"/proc/self/ns/pid") else b"user:[4026531837]"
        call.args[2][: len(target)] = target
        return len(target)

    kernel.on("readlinkat", readlink)
    text = fix("bpf", Answer("no", "why", 1, "try()", "capability:bpf,perfmon"), patient(kernel))
    assert "--cap-add BPF --cap-add PERFMON" in text
    assert examine(kernel, Scripted(kernel)).finding("container").detail == "podman"


def test_verdicts():
    refused = Answer("no", "why", 1, "try()", "policy")
    missing = Answer("no", "why", 2, "try()", "config:CONFIG_KPROBES,CONFIG_FPROBE")
    given = dict.fromkeys(("kprobe_multi", "kprobe_perf", "kprobe_tracefs"), missing) | {"fentry": refused, "perf_hardware": refused}
    hardware, static, dynamic = examine(machine(), Scripted(machine(), given)).verdict
    assert hardware.state == "some" and "not CPU counters" in hardware.detail and "profile:hz:99" in hardware.detail
    assert static.state == "yes"
    assert dynamic.detail == "user functions; not kernel functions (kprobes: CONFIG_KPROBES is not set; fentry: refused by policy)"
    nothing = examine(machine("0", 1000), Scripted(machine("0", 1000), {}, refused)).verdict
    assert [finding.state for finding in nothing] == ["no"] * 3 and "sudo" in nothing[2].detail


def test_text_is_aligned_and_plain():
    report = examine(machine(), Scripted(machine(), {"fentry": Answer("no", "because " * 30, 1, "try()", "policy")}))
    lines = list(render.text(report, width=80))
    assert all(len(line) <= 80 and line == line.rstrip() and "\x1b" not in line and "\n" not in line for line in lines)
    assert lines[0] == "Linux on x86_64" and "In short" in lines
    start = lines.index("Dynamic probes")
    end = lines.index("", start)
    rows = [line for line in lines[start + 1 : end] if line[2:5] in ("yes", "no ")]
    purposes = [doctor_tables.TITLES[name][1] for name in doctor_tables.SECTIONS[2][2]]
    assert {row.index(purpose) for row, purpose in zip(rows, purposes)} == {rows[0].index(purposes[0])}
    assert any(line.startswith("        why  because because") for line in lines)
    assert any(line.startswith("        fix  cannot be changed from here") for line in lines)


def test_colours_change_nothing_but_colour():
    report = examine(machine(), Scripted(machine()))
    plain, coloured = "\n".join(render.text(report)), "\n".join(render.text(report, colour=True))
    assert "\x1b[32m" in coloured
    for code in ("\x1b[1m", "\x1b[2m", "\x1b[0m", "\x1b[31m", "\x1b[32m", "\x1b[33m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain


def test_long_lists_are_folded_unless_all_is_wanted():
    report = examine(machine(), Scripted(machine(), {"map:arena": Answer("no", "why", 22, "try()", "kernel")}))
    folded, full = list(render.text(report)), list(render.text(report, everything=True))
    assert len(folded) < len(full)
    assert "  no    arena" in folded


def test_neighbours_with_the_same_remedy_share_it():
    refused = Answer("no", "why", 1, "try()", "policy")
    report = examine(machine(), Scripted(machine(), {"fentry": refused, "fexit": refused}))
    lines = list(render.text(report, width=140))
    assert sum(line.startswith("        fix  cannot be changed") for line in lines) == 1


def test_json_has_the_same_findings():
    report = examine(machine(), Scripted(machine(), {"fentry": Answer("no", "why", 1, "try()", "policy")}))
    data = json.loads(json.dumps(render.plain(report)))
    found = next(item for section in data["sections"] for item in section["findings"] if item["name"] == "fentry")
    assert found == {
        "name": "fentry",
        "title": "fentry",
        "state": "no",
        "detail": doctor_tables.TITLES["fentry"][1],
        "reason": "why",
        "errno": "EPERM",
        "call": "try()",
        "cause": "policy",
        "fix": found["fix"],
    }
    assert [item["name"] for item in data["summary"]] == ["hardware", "static", "dynamic"]


def test_options(monkeypatch):
    monkeypatch.setenv("COLUMNS", "77")
    assert command.options(["--json", "-v"]) == command.Options(True, True, False, 77)
    assert command.options(["--color", "always"]).colour
    monkeypatch.setenv("COLUMNS", "wide")
    assert command.options([]).width == 100
    with pytest.raises(SystemExit) as caught:
        command.options(["--nosuch"])
    assert caught.value.code == 2
