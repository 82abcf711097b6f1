"""The image of compiled modules: what it serves, and what it does not."""

from __future__ import annotations

import importlib.util
import marshal
import os
import py_compile
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import harken
from harken.base import cache, code_image
from harken.base.code_image import CodeImage, pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a package's outline, as ``CodeImage`` sees it."""
    (tmp_path / "part").mkdir()
    for name in ("__init__.py", "part/__init__.py", "part/one.py"):
        (tmp_path / name).write_text("VALUE = 1\n")
    return tmp_path


def entry(path: Path, text: str, package: bool = False) -> tuple[bytes, int, int, bool]:
    state = path.stat()
    return marshal.dumps(compile(text, str(path), "exec")), state.st_size, state.st_ctime_ns, package


@pytest.fixture
def image(folder: Path) -> CodeImage:
    parts = {
        "harken.part": entry(folder / "part" / "__init__.py", "WHO = 'image'", True),
        "harken.part.one": entry(folder / "part" / "one.py", "WHO = 'image'"),
    }
    return CodeImage(str(folder), pack(parts))


def test_modules_come_from_the_image_with_all_that_modules_have(folder: Path, image: CodeImage) -> None:
    spec = image.find_spec("harken.part.one")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.WHO == "image" and module.__file__ == str(folder / "part" / "one.py") and module.__package__ == "harken.part"
    assert module.__cached__ == importlib.util.cache_from_source(str(folder / "part" / "one.py"))
    assert spec.loader.get_source("harken.part.one") == "VALUE = 1\n"  # type: ignore[attr-defined]
    package = image.find_spec("harken.part")
    assert package is not None and package.submodule_search_locations == [str(folder / "part")]
    assert image.find_spec("harken.part.two") is None and image.find_spec("os") is None


@pytest.fixture
def some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tuple[bytes, int, int, bool]]]:
    """Modules that import one another, and note in ``sys.ran`` when they run; they are forgotten at the end."""
    texts = {
        "some.__init__": "",
        "some.top": "from . import left\nfrom .deep import leaf\nfrom .right import RIGHT\nVALUE = (left.LEFT, leaf.LEAF, RIGHT)",
        "some.left": "LEFT = 'left'",
        "some.right": "from .deep.leaf import LEAF\nRIGHT = 'right'",
        "some.deep.__init__": "from .leaf import LEAF",
        "some.deep.leaf": "LEAF = 'leaf'",
        "some.late": "",
    }
    parts = {}
    for name, text in texts.items():
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("import sys\nsys.ran.append(__name__)\n" + text)
        full = f"harken.{name.removesuffix('.__init__')}"
        parts[full] = entry(path, path.read_text(), name.endswith("__init__"))
    monkeypatch.setattr(sys, "ran", [], raising=False)
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    yield parts
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.startswith("harken.some")]:
        del sys.modules[name]
    harken.__dict__.pop("some", None)


def imported(image: CodeImage) -> tuple[Any, list[str]]:
    """harken.some.top, and what ran."""
    forget()
    sys.meta_path.insert(0, image)
    sys.ran.clear()  # type: ignore[attr-defined]
    try:
        return importlib.import_module("harken.some.top"), [name.removeprefix("harken.some") for name in sys.ran]  # type: ignore[attr-defined]
    finally:
        sys.meta_path.remove(image)


def test_what_an_import_brings_with_it_comes_as_a_group(tmp_path: Path, some: dict[str, Any]) -> None:
    first = CodeImage(str(tmp_path), pack(some))
    module, order = imported(first)
    assert module.VALUE == ("left", "leaf", "right") and order == ["", ".top", ".left", ".deep", ".deep.leaf", ".right"]
    seen = first._seen["harken.some.top"]
    assert [name.removeprefix("harken.some") for name in seen] == [".left", ".deep.leaf", ".deep", ".right", ".top"]
    image = CodeImage(str(tmp_path), pack(some, {"harken.some.top": seen}))
    module, order = imported(image)
    assert order == ["", ".left", ".deep.leaf", ".deep", ".right", ".top"] and not image._seen
    assert module.VALUE == ("left", "leaf", "right") and module.left is sys.modules["harken.some.left"]
    leaf, deep = sys.modules["harken.some.deep.leaf"], sys.modules["harken.some.deep"]
    assert deep.leaf is leaf and leaf.__package__ == "harken.some.deep" == deep.__package__ and not hasattr(leaf, "__path__")
    assert leaf.__file__ == str(tmp_path / "some/deep/leaf.py") and leaf.__spec__ is not None and leaf.__spec__.loader is leaf.__loader__
    assert list(deep.__path__) == [str(tmp_path / "some/deep")] and importlib.import_module("harken.some.late") is not None
    assert leaf.__cached__ == importlib.util.cache_from_source(leaf.__file__)


def test_what_is_there_already_does_not_run_again(tmp_path: Path, some: dict[str, Any]) -> None:
    first = CodeImage(str(tmp_path), pack(some))
    imported(first)
    image = CodeImage(str(tmp_path), pack(some, first._seen))
    forget()
    sys.meta_path.insert(0, image)
    left = importlib.import_module("harken.some.left")
    assert importlib.import_module("harken.some.top").left is left and sys.ran.count("harken.some.left") == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("wrong", ["touched", "gone", "damaged"])
def test_a_group_that_is_not_as_it_was(tmp_path: Path, some: dict[str, Any], wrong: str) -> None:
    first = CodeImage(str(tmp_path), pack(some))
    imported(first)
    data = pack(some, first._seen)
    image = CodeImage(str(tmp_path), data)
    source = tmp_path / "some/deep/leaf.py"
    if wrong == "touched":
        os.utime(source, ns=(1, 1))
    elif wrong == "gone":
        del image.index["harken.some.deep.leaf"]
    else:
        start, length, *rest = image.groups["harken.some.top"]
        image = CodeImage(str(tmp_path), data[: start + 9] + bytes([data[start + 9] ^ 1]) + data[start + 10 :])
    module, order = imported(image)
    assert module.VALUE == ("left", "leaf", "right") and order == ["", ".top", ".left", ".deep", ".deep.leaf", ".right"]


def raising(some: dict[str, Any], name: str, text: str) -> dict[str, Any]:
    """The same modules, of which one begins with another text."""
    code = marshal.dumps(compile(f"import sys\nsys.ran.append(__name__)\n{text}", "some", "exec"))
    return {**some, name: (code, *some[name][1:])}


def test_an_error_in_a_group_is_raised_where_the_module_is_imported(tmp_path: Path, some: dict[str, Any]) -> None:
    first = CodeImage(str(tmp_path), pack(some))
    imported(first)
    broken = raising(some, "harken.some.deep.leaf", "raise ValueError(1)")
    with pytest.raises(ValueError, match="1") as caught:
        imported(CodeImage(str(tmp_path), pack(broken, first._seen)))
    assert "top.py" in str(caught.traceback) and {name for name in sys.modules if name.startswith("harken.some.")} == {"harken.some.left"}


def test_an_error_in_a_group_that_its_importer_expects(tmp_path: Path, some: dict[str, Any]) -> None:
    """What it needs was there when the group was made."""
    top = "try:\n    from .right import RIGHT\nexcept ImportError:\n    RIGHT = 'none'\nVALUE = RIGHT\nfrom . import left, deep"
    expecting = raising(some, "harken.some.top", top)
    first = CodeImage(str(tmp_path), pack(expecting))
    assert imported(first)[0].VALUE == "right" and "harken.some.right" in first._seen["harken.some.top"]
    image = CodeImage(str(tmp_path), pack(raising(expecting, "harken.some.right", "import nowhere_at_all"), first._seen))
    assert imported(image)[0].VALUE == "none" and "harken.some.right" not in sys.modules


def test_groups_are_not_used_beside_other_threads(tmp_path: Path, some: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that imports the same would see modules that are not complete."""
    first = CodeImage(str(tmp_path), pack(some))
    imported(first)
    image = CodeImage(str(tmp_path), pack(some, first._seen))
    monkeypatch.setattr(code_image, "other_threads", lambda: 1)
    assert imported(image)[1] == ["", ".top", ".left", ".deep", ".deep.leaf", ".right"] and not image._seen


@pytest.mark.parametrize("grouped", [True, False])
def test_code_names_the_file_that_is_there_now(tmp_path: Path, some: dict[str, Any], grouped: bool) -> None:
    """It was compiled where the package was built; tracebacks, and who looks whose frame it is, go by it."""
    first = CodeImage(str(tmp_path), pack(some))
    imported(first)
    moved = raising(raising(some, "harken.some.left", "def function(): pass"), "harken.some.top", "from . import left, deep\nf = lambda: 0")
    image = CodeImage(str(tmp_path), pack(moved, first._seen if grouped else None))
    top = imported(image)[0]
    codes = {str(function.__code__.co_filename) for function in (top.f, sys.modules["harken.some.left"].function)}
    assert codes == {str(tmp_path / "some" / "top.py"), str(tmp_path / "some" / "left.py")}


def test_groups_need_all_of_their_modules(tmp_path: Path, some: dict[str, Any]) -> None:
    groups = {"harken.some.top": ("harken.some.left", "harken.some.top"), "harken.some.right": ("harken.some.nowhere", "harken.some.right")}
    assert set(CodeImage("", pack(some, groups)).groups) == {"harken.some.top"}


@pytest.mark.parametrize("change", ["longer", "touched", "another", "gone"])
def test_a_changed_source_is_imported_as_always(folder: Path, image: CodeImage, change: str) -> None:
    source = folder / "part" / "one.py"
    if change == "longer":
        before = source.stat().st_mtime_ns
        source.write_text("VALUE = 1000\n")
        os.utime(source, ns=(before, before))
    elif change == "touched":
        os.utime(source, ns=(1, 1))
    elif change == "another":  # as a builder that gives all files the same time has it
        state = source.stat()
        (folder / "new").write_text("VALUE = 2\n")
        os.utime(folder / "new", ns=(state.st_atime_ns, state.st_mtime_ns))
        os.rename(folder / "new", source)
        assert (source.stat().st_size, source.stat().st_mtime_ns) == (state.st_size, state.st_mtime_ns)
    else:
        source.unlink()
    assert image.find_spec("harken.part.one") is None and image.find_spec("harken.part") is not None


@pytest.mark.parametrize("cut", [0, 3, 8, 40, -1])
def test_a_damaged_image_serves_nothing(folder: Path, cut: int) -> None:
    whole = pack({"harken.part.one": entry(folder / "part" / "one.py", "pass")})
    assert CodeImage(str(folder), whole[:cut]).index == {}


def test_a_damaged_index_serves_nothing(folder: Path) -> None:
    whole = pack({"harken.part.one": entry(folder / "part" / "one.py", "pass")})
    for place in range(int.from_bytes(whole[4:8], "little"), len(whole)):
        assert CodeImage(str(folder), whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]).index == {}


@pytest.mark.parametrize("why", ["off", "read-only"])
def test_nothing_is_packed_that_cannot_be_kept(tmp_path: Path, some: dict[str, Any], monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    image = CodeImage(str(tmp_path), pack(some))
    imported(image)
    assert image._seen
    monkeypatch.setenv("HARKEN_CACHE", "off" if why == "off" else str(tmp_path / "cache"))
    if why == "read-only":
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(code_image, "pack", lambda *parts: pytest.fail("it was packed"))
    assert not image.extend()


def test_an_image_that_cannot_be_read_any_more_is_not_kept(tmp_path: Path, some: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARKEN_CACHE", str(tmp_path / "cache"))
    key = code_image._key(str(tmp_path))
    assert cache.store("code", key, pack(some))
    kept = cache.pieces("code", key)
    assert kept is not None
    image = CodeImage(str(tmp_path), kept)
    imported(image)
    assert image._seen
    os.close(kept._fd)
    assert not image.extend()
    again = CodeImage(str(tmp_path), cache.load("code", key) or b"")
    assert again.code("harken.some.left") == some["harken.some.left"][0]


@pytest.mark.parametrize("damage", ["zeros", "one bit"])
def test_damaged_code_does_not_run_and_is_replaced(
    tmp_path: Path, some: dict[str, Any], monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """As a machine without power may leave a file, or a disk."""
    monkeypatch.setenv("HARKEN_CACHE", str(tmp_path / "cache"))
    py_compile.compile(str(tmp_path / "some/left.py"))
    data, code = pack(some), some["harken.some.left"][0]
    start, length = CodeImage(str(tmp_path), data).index["harken.some.left"][:2]
    spoiled = bytes(length) if damage == "zeros" else code.replace(b"left", b"lift")
    assert spoiled != code
    image = CodeImage(str(tmp_path), data[:start] + spoiled + data[start + length :])
    assert imported(image)[0].VALUE == ("left", "leaf", "right") and image.extend()
    kept = CodeImage(str(tmp_path), cache.load("code", code_image._key(str(tmp_path))) or b"")
    assert marshal.loads(kept.code("harken.some.left")).co_consts == marshal.loads(code).co_consts
    assert imported(kept)[0].VALUE == ("left", "leaf", "right") and not kept._loose and not kept._seen


def test_code_that_cannot_be_read_comes_from_the_source(folder: Path) -> None:
    data, *rest = entry(folder / "part" / "one.py", "WHO = 'image'")
    image = CodeImage(str(folder), pack({"harken.part.one": (bytes(len(data)), *rest)}))  # type: ignore[dict-item]
    spec = image.find_spec("harken.part.one")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.VALUE == 1


def test_the_command_keeps_what_it_imported_and_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", "from harken.cli.main import script; script()"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["HARKEN_CACHE"] = str(tmp_path / "cache")
    first = subprocess.run([*command, "--help"], env=environment, capture_output=True, text=True, check=True)
    again = subprocess.run([command[0], "-v", *command[1:], "--help"], env=environment, capture_output=True, text=True, check=True)
    assert again.stdout == first.stdout
    monkeypatch.setenv("HARKEN_CACHE", environment["HARKEN_CACHE"])
    root = os.path.dirname(os.path.dirname(os.path.abspath(code_image.__file__)))
    data = cache.load("code", code_image._key(root))
    assert data is not None and "harken.cli.options" in CodeImage(root, data).index
    assert not any("code object from" in line and "options" in line for line in again.stderr.splitlines())
    (kept,) = (tmp_path / "cache").glob("code.*")
    before = kept.stat().st_ino
    subprocess.run([*command, "--help"], env=environment, capture_output=True, check=True)
    assert kept.stat().st_ino == before, "there was nothing to add"


@pytest.mark.parametrize(("mode", "kept"), [("TIMESTAMP", True), ("UNCHECKED_HASH", True), ("CHECKED_HASH", False)])
def test_code_is_kept_that_python_itself_would_take(folder: Path, mode: str, kept: bool) -> None:
    """With a checked hash, the source may be another one by now, which only reading it would tell."""
    source = folder / "part" / "one.py"
    cached = py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode[mode])
    found = code_image._compiled(cached, source.stat())
    assert (found is not None) == kept
    if found is not None:
        names: dict[str, int] = {}
        exec(marshal.loads(found), names)
        assert names["VALUE"] == 1
    image = CodeImage(str(folder))
    spec = image.find_spec("harken.part.one")
    assert (spec is not None) == kept and code_image._compiled(str(folder / "nothing"), source.stat()) is None
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.VALUE == 1
    os.utime(source, ns=(1, 1))
    assert (image.find_spec("harken.part.one") is not None) == (mode == "UNCHECKED_HASH")


def test_a_group_does_not_run_old_code_of_a_module_that_was_compiled_anew(
    tmp_path: Path, some: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = CodeImage(str(tmp_path), pack(some))
    imported(first)
    image = CodeImage(str(tmp_path), pack(some, first._seen))
    source = tmp_path / "some/right.py"
    source.write_text("RIGHT = 'new'")
    py_compile.compile(str(source))
    assert imported(image)[0].VALUE == ("left", "leaf", "new")
    monkeypatch.setenv("HARKEN_CACHE", str(tmp_path / "cache"))
    seen, image._seen = image._seen, {}
    for name in range(code_image._WORTH):  # so much more that it is worth it
        image._loose[f"harken.more{name}"] = some["harken.some.left"]
    assert image.extend()
    kept = CodeImage(str(tmp_path), cache.load("code", code_image._key(str(tmp_path))) or b"")
    assert "harken.more1" in kept.index and "harken.some.top" not in kept.groups
    assert kept.find_spec("harken.some.right") is not None and not kept._loose
    image._seen = seen
    assert image.extend()
    kept = CodeImage(str(tmp_path), cache.load("code", code_image._key(str(tmp_path))) or b"")
    assert kept.groups["harken.some.top"][2] == seen["harken.some.top"]
    again = CodeImage(str(tmp_path), pack({**some, **image._loose}, seen))
    assert again.groups and imported(again)[0].VALUE == ("left", "leaf", "new") and not again._seen
