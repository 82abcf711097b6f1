"""C programs before the kernel's verifier: what C programmers write is accepted, and a refusal names the line of C."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

if os.geteuid() != 0:
    pytest.skip("loading BPF programs needs root", allow_module_level=True)
if importlib.util.find_spec("clang") is None:
    pytest.skip("compiling C needs libclang (harken[c])", allow_module_level=True)

from harken.abi import bpf as abi  # noqa: E402
from harken.base.diagnostics import Source  # noqa: E402
from harken.base.errors import VerifierError  # noqa: E402
from harken.compiler.context import Context  # noqa: E402
from harken.compiler.target import Target  # noqa: E402
from harken.formats.spec import Spec  # noqa: E402
from harken.kernel.kernel import live  # noqa: E402
from harken.kernel.loader import load  # noqa: E402
from harken.languages.c.compile import compile, program, table_specs  # noqa: E402
from harken.probes.catalogue import Catalogue  # noqa: E402

pytestmark = pytest.mark.kernel

KPROBE = Context(abi.BPF_PROG_TYPE_KPROBE, "pt_regs")
REFUSED = """BPF_HASH(table, u32, u64);
int unchecked(struct pt_regs *ctx) {
  u32 key = 1;
  u64 *p = table.lookup(&key);
  key = 2;
  *p = key;
  return 0;
}
int endless(struct pt_regs *ctx) {
  u64 sum = 0;
  for (u64 i = 0; i < bpf_ktime_get_ns(); i++)
    sum += i;
  return sum;
}
"""


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    found = Catalogue(live())
    if found.btf is None:
        pytest.skip("this kernel has no BTF")
    return found


def test_what_c_programmers_write_is_accepted(catalogue: Catalogue) -> None:
    text = (Path(__file__).parent / "verifier_programs.c").read_text()
    unit = compile(Source("verifier_programs.c", text), catalogue)
    target = Target(*catalogue.features.target())
    with load(catalogue.kernel, Spec(table_specs(unit))) as maps:
        assert len(unit.functions) == 10
        for function in unit.functions:
            with load(catalogue.kernel, program(unit, function.name, KPROBE, target), maps=maps.maps) as loaded:
                assert loaded.programs[function.name].fd >= 0


@pytest.mark.parametrize(("function", "line", "what"), [("unchecked", 6, "may be null"), ("endless", 11, "loop")])
def test_a_refusal_names_the_line_of_c(catalogue: Catalogue, function: str, line: int, what: str) -> None:
    unit = compile(Source("refused.c", REFUSED), catalogue)
    target = Target(*catalogue.features.target())
    with load(catalogue.kernel, Spec(table_specs(unit))) as maps, pytest.raises(VerifierError, match=what) as refusal:
        load(catalogue.kernel, program(unit, function, KPROBE, target), maps=maps.maps)
    assert refusal.value.diagnostic is not None and refusal.value.diagnostic.position.startswith(f"refused.c:{line}:")
