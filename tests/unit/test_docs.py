"""Documents agree with the code: links lead somewhere, named modules, files and commands exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

if not DOCUMENTS:
    pytest.skip("no documents: not a source tree", allow_module_level=True)


def prose(text: str) -> str:
    """The text without fenced and indented code."""
    return re.sub(r"(?ms)^```.*?^```|^ {4}.*?$", "", text)


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    return {slug(match) for match in re.findall(r"(?m)^#+ +(.*)$", text)}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text()
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
            broken.append(target)
    assert not broken, broken


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_modules_exist(path: Path) -> None:
    """``harken.x.y`` in code spans is a module or something in one; ``src/...`` and ``tests/...`` are paths."""
    missing = []
    spans = re.findall(r"`([^`\n]+)`", path.read_text())
    for span in spans:
        for name in re.findall(r"(?<![\w.])harken(?:\.[A-Za-z_]\w*)+", span):
            if not exists(name):
                missing.append(name)
        for name in re.findall(r"(?<![\w/.])(?:src|tests|docs|tools|bench|\.ci)/[\w./-]*\w", span):
            if not (ROOT / name).exists():
                missing.append(name)
    assert not missing, missing


def exists(name: str) -> bool:
    parts = name.split(".")
    for size in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:size]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[size:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


def test_the_check_finds_what_is_missing() -> None:
    assert exists("harken.base.errors.HarkenError.message") is False  # an attribute of instances only
    assert exists("harken.base.errors.HarkenError")
    assert not exists("harken.nothing.here")
    assert slug("Guests: another kernel, in 15 seconds") == "guests-another-kernel-in-15-seconds"


def test_the_changelog_has_this_version() -> None:
    import harken

    assert re.search(rf"(?m)^## \[?{re.escape(harken.__version__)}\]?", (ROOT / "CHANGELOG.md").read_text())


def test_documents_keep_to_the_project() -> None:
    """No path of some machine and no host of some mirror gets into the documents."""
    for path in DOCUMENTS:
        assert not re.search(r"/work/|/tmp/brief|deb\.debian\.org|pypi\.org/simple", path.read_text()), path
