"""The wheel: it builds, installs into an empty environment, runs there, and contains what it should and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OFFLINE = (
    "Could not find a version",
    "No matching distribution",
    "Connection",
    "Temporary failure in name resolution",
    "Network is unreachable",
)

if not (ROOT / "pyproject.toml").exists():
    pytest.skip("not a source tree", allow_module_level=True)


def run(*argv: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(word) for word in argv], env=kept | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280
    )


def build(folder: Path, **environment: str) -> Path:
    """The wheel, built from a copy of what is under version control (or of the tree, in a source archive)."""
    done = run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-input", "-w", folder, ROOT, **environment)
    if done.returncode and any(word in done.stderr for word in OFFLINE):
        pytest.skip("the build back end cannot be downloaded: " + done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


def test_no_compiler_is_needed(tmp_path: Path) -> None:
    built = build(tmp_path, HARKEN_NATIVE="0")
    assert built.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(built).namelist() if name.endswith(".so")]


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.endswith("-py3-none-any.whl") == ("harken/native/native.so" not in names), "it runs where it says"
    assert "harken/py.typed" in names
    outside = [name for name in names if not name.startswith("harken/") and ".dist-info/" not in name]
    assert {name.partition(".data/")[2] for name in outside} <= {"scripts/harken", "scripts/harken-trace-cmd"}, outside
    assert not [name for name in names if "/tests/" in name or Path(name).name.startswith("test_") or "__pycache__" in name]
    sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "harken").rglob("*.py")}
    assert sources <= set(names)


def test_the_wheel_needs_nothing(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    text = archive.read(metadata).decode()
    required = [line for line in text.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert not required, "the core has no dependencies"
    assert "License-Expression: Apache-2.0" in text
    assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())


def test_it_installs_and_runs_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    try:
        venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    except Exception as problem:
        pytest.skip(f"no virtual environment can be made: {problem}")
    python = tmp_path / "venv" / "bin" / "python"
    done = run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-index", "--no-input", wheel)
    assert done.returncode == 0, done.stderr
    command = tmp_path / "venv" / "bin" / "harken"
    done = run(command, "--help", HARKEN_CACHE=str(tmp_path))
    assert done.returncode == 0 and "harken" in done.stdout, done.stderr
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    done = run(command, "--version", HARKEN_CACHE=str(tmp_path))
    assert done.returncode == 0 and version in done.stdout, done.stdout + done.stderr
    done = run(python, "-c", "import harken, sys; sys.exit('src' in harken.__file__)", HARKEN_CACHE=str(tmp_path))
    assert done.returncode == 0, "the installed copy is used"


def test_the_versions_agree() -> None:
    import harken

    assert harken.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_extras_are_real() -> None:
    """Every extra that code or documents name is declared."""
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = set()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]:
        text = path.read_text()
        for part in text.split("harken[")[1:]:
            named |= {name.strip() for name in part.split("]")[0].split(",")}
    assert named <= extras, named - extras


def test_continuous_integration_runs_the_readme_command() -> None:
    command = "tools/test.sh"
    assert command in (ROOT / ".ci" / "run").read_text()
    assert command in (ROOT / "README.md").read_text()
    assert command in (ROOT / "CONTRIBUTING.md").read_text()


@pytest.mark.parametrize("script", ["tools/test.sh", "tools/bootstrap.sh", ".ci/run"])
def test_scripts_parse(script: str) -> None:
    assert run("bash", "-n", ROOT / script).returncode == 0
    assert os.access(ROOT / script, os.X_OK)
