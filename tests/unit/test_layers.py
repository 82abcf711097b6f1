"""The house rules that a program can check: who may import whom, who may touch what, and what start-up may load."""

from __future__ import annotations

import ast
import functools
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "harken"
ORDER = (
    "base", "abi", "native", "formats", "analysis", "render", "kernel", "symbols", "probes", "compiler", "languages", "session",
    "ftrace", "bcc", "cli", "testing",
)  # fmt: skip
"""A package may import only packages that stand before it (docs/architecture.md)."""

MODULES = sorted(SOURCE.rglob("*.py"))

NOT_AT_STARTUP = frozenset(
    "dataclasses enum re typing functools contextlib collections.abc argparse json pathlib subprocess inspect logging tempfile shutil "
    "numpy rich elftools llvmlite clang duckdb ast importlib.metadata traceback socket asyncio threading unittest signal".split()
)
"""Modules that neither ``harken --help`` nor a one-liner from a warm cache may load: each costs 1 to 100 ms."""

HOT_PACKAGES = ("base", "kernel", "session", "render")
"""Packages all of whose modules the start-up path may load, so they import nothing heavy at module level."""

HOT_MODULES = ("formats/spec.py", "compiler/unit.py", "cli/main.py", "__init__.py", "probes/model.py")
COLD_MODULES = frozenset(("kernel/features.py",))
"""Exceptions inside hot packages: loaded on demand only."""


def module_name(path: Path) -> str:
    """``harken.kernel.bpf`` for src/harken/kernel/bpf.py."""
    parts = ("harken", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(name: str) -> str:
    """The part of the house that a module belongs to; "" for ``harken`` itself."""
    parts = name.split(".")
    if parts == ["harken", "__main__"]:
        return "cli"
    return parts[1] if len(parts) > 1 and parts[0] == "harken" else ""


def imports(nodes: Iterable[ast.AST], path: Path) -> list[tuple[int, str]]:
    """Every import as (line, absolute module name); ``from . import x`` names harken's own modules in full."""
    own = ["harken", *path.relative_to(SOURCE).parent.parts]
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = own[: len(own) - node.level + 1] if node.level else []
            module = ".".join([*base, *((node.module or "").split(".") if node.module else [])])
            found.append((node.lineno, module))
            found += [
                (node.lineno, f"{module}.{alias.name}") for alias in node.names if module == "harken" or (node.level and not node.module)
            ]
    return found


def on_import(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run on import: not function bodies, not ``if TYPE_CHECKING`` blocks."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            todo += node.orelse
        else:
            todo += ast.iter_child_nodes(node)


@functools.cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(SOURCE.parent.parent)}:{line}"


def layer_problems(path: Path, tree: ast.Module) -> list[str]:
    """Imports from a package that stands later in the order."""
    name = module_name(path)
    own = package_of(name)
    if not own:  # harken/__init__.py hands out names of any package, lazily
        return [
            f"{where(path, line)} imports {other} on import of harken"
            for line, other in imports(on_import(tree), path)
            if package_of(other)
        ]
    problems = []
    if own not in ORDER:
        return [f"{where(path, 1)}: package {own} has no place in the order"]
    for line, other in imports(ast.walk(tree), path):
        package = package_of(other)
        if package and package in ORDER and ORDER.index(package) > ORDER.index(own):
            problems.append(f"{where(path, line)}: {own} imports {other}")
    return problems


def test_packages_import_only_what_stands_above_them() -> None:
    problems = [problem for path in MODULES for problem in layer_problems(path, parse(path))]
    assert not problems, "\n".join(problems)


def test_the_order_is_complete() -> None:
    packages = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert packages <= set(ORDER)


def test_the_check_finds_a_wrong_import() -> None:
    path = SOURCE / "base" / "wrong.py"
    text = "def f():\n    from ..kernel import bpf\n    from harken import session\n    import harken.cli.main\n    from . import errors\n"
    assert [problem.split(": ")[1] for problem in layer_problems(path, ast.parse(text))] == [
        "base imports harken.kernel", "base imports harken.session", "base imports harken.cli.main",
    ]  # fmt: skip


def test_no_cycles_inside_packages() -> None:
    """Modules of a package may import one another, but not in a circle (imports inside functions are no cycle)."""
    graph = {}
    names = {module_name(path) for path in MODULES}
    for path in MODULES:
        graph[module_name(path)] = {other for _line, other in imports(on_import(parse(path)), path) if other in names}
        graph[module_name(path)].discard(module_name(path))
    done: set[str] = set()

    def visit(name: str, stack: tuple[str, ...]) -> None:
        assert name not in stack, "import cycle: " + " -> ".join((*stack[stack.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*stack, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


LIBCLANG = ("harken.languages.c.libclang", "harken.languages.c.libclang_abi")
ALLOWED = {
    "ctypes": lambda name: package_of(name) in ("abi", "native", "kernel", "bcc") or name in ("harken.base.schema", *LIBCLANG),
    "llvmlite": lambda name: name.startswith("harken.compiler.backends.llvm"),
    "clang": lambda name: name.startswith("harken.languages.c"),
    "bcc": lambda name: False,
}


@pytest.mark.parametrize("library", ALLOWED)
def test_only_the_owner_imports(library: str) -> None:
    problems = [
        f"{where(path, line)} imports {other}"
        for path in MODULES
        for line, other in imports(ast.walk(parse(path)), path)
        if other.split(".")[0] == library and not ALLOWED[library](module_name(path))
    ]
    assert not problems, "\n".join(problems)


def test_only_cli_and_render_print_and_exit() -> None:
    problems = []
    for path in MODULES:
        name = module_name(path)
        if package_of(name) in ("cli", "render") or name == "harken.bcc.__main__":
            continue
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "exit", "quit", "breakpoint"):
                problems.append(f"{where(path, node.lineno)} calls {node.func.id}()")
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "sys"
                and node.attr in ("argv", "exit")
                and package_of(name) != "testing"
            ):
                problems.append(f"{where(path, node.lineno)} uses sys.{node.attr}")
    assert not problems, "\n".join(problems)


def test_no_decision_compares_kernel_versions() -> None:
    """``uname`` may be shown; comparing what it says is what feature probes are there to avoid."""
    problems = []
    for path in MODULES:
        if package_of(module_name(path)) == "testing":
            continue
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Compare):
                text = ast.unparse(node)
                if "call(Call(" not in text and any(
                    word in text for word in ("uname", "kernel_version", "osrelease", ".release", "LINUX_VERSION_CODE")
                ):
                    problems.append(f"{where(path, node.lineno)}: {text}")
    assert not problems, "\n".join(problems)


def test_hot_modules_import_nothing_heavy() -> None:
    problems = []
    for path in MODULES:
        relative = str(path.relative_to(SOURCE))
        hot = relative.split("/")[0] in HOT_PACKAGES or relative in HOT_MODULES or relative.startswith("probes/attachers/")
        if not hot or relative in COLD_MODULES:
            continue
        for line, other in imports(on_import(parse(path)), path):
            if other in NOT_AT_STARTUP or other.split(".")[0] in NOT_AT_STARTUP:
                problems.append(f"{where(path, line)} imports {other} at module level")
    assert not problems, "\n".join(problems)


def test_modules_say_what_they_are() -> None:
    """A module's docstring is its manual section; packages' empty __init__ files are exempt."""
    missing = [where(path, 1) for path in MODULES if path.read_text().strip() and ast.get_docstring(parse(path)) is None]
    assert not missing, "\n".join(missing)


def test_exported_names_exist() -> None:
    """``__all__`` is a tuple and every name in it is defined at module level."""
    problems = []
    for path in MODULES:
        tree = parse(path)
        defined: set[str] = set()
        exported: list[str] | None = None
        for node in on_import(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                defined.add(node.name)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                defined |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                defined.add(node.id)
        for node in tree.body:
            if isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
                if not isinstance(node.value, ast.Tuple):
                    continue  # made by a generator script
                exported = [element.value for element in node.value.elts if isinstance(element, ast.Constant)]
        lazy = "__getattr__" in defined
        problems += [
            f"{where(path, 1)} exports {name}, which it does not define" for name in exported or () if name not in defined and not lazy
        ]
    assert not problems, "\n".join(problems)


STARTUP_PROBE = """
import sys
before = set(sys.modules)
sys.argv = ["harken", *{argv!r}]
from harken.cli.main import main
try:
    status = main()
except SystemExit as stop:
    status = stop.code
sys.stdout.flush()
sys.stderr.write("\\nstatus " + str(status or 0) + "\\nmodules " + " ".join(sorted(set(sys.modules) - before)))
"""


def loaded_by(argv: list[str], environment: dict[str, str]) -> tuple[int, set[str], str]:
    """The status and the modules that a run of the command line loads, beyond what bare Python has."""
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r})\n" + STARTUP_PROBE.format(argv=argv)],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    head, separator, modules = done.stderr.rpartition("\nmodules ")
    assert separator, done.stderr
    return int(head.rpartition("\nstatus ")[2]), set(modules.split()), done.stdout + head


def heavy(modules: set[str]) -> set[str]:
    return {name for name in modules if name in NOT_AT_STARTUP or name.split(".")[0] in NOT_AT_STARTUP}


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    status, modules, text = loaded_by(["--help"], {**os.environ, "HARKEN_CACHE": str(tmp_path)})
    assert status == 0, text
    assert not heavy(modules)
    assert "ctypes" not in modules, "showing help needs no system calls"


@pytest.mark.skipif(os.geteuid() != 0, reason="tracing needs root")
def test_a_cached_one_liner_loads_nothing_heavy(tmp_path: Path) -> None:
    environment = {**os.environ, "HARKEN_CACHE": str(tmp_path)}
    argv = ["-e", "tracepoint:syscalls:sys_enter_openat { @[comm] = count(); } BEGIN { exit(); }"]
    status, cold, text = loaded_by(argv, environment)
    assert status == 0, text
    status, warm, text = loaded_by(argv, environment)
    assert status == 0, text
    assert not heavy(warm)
    assert "ctypes" not in warm, "its C part is enough for system calls"
    compilers = {name for name in warm if name.startswith(("harken.languages", "harken.compiler.passes", "harken.compiler.backends"))}
    assert not compilers, f"the second start compiles: {sorted(compilers)}"
    assert cold > warm, "the first start should have compiled"


@pytest.mark.skipif(os.geteuid() != 0, reason="tracing needs root")
def test_a_recording_loads_nothing_heavy(tmp_path: Path) -> None:
    if not os.path.exists("/sys/kernel/tracing/trace"):
        pytest.skip("tracefs is not mounted")
    words = ["trace-cmd", "record", "-q", "-o", str(tmp_path / "a.dat"), "--compression", "none", "-e", "sched:sched_switch", "true"]
    status, modules, text = loaded_by(words, dict(os.environ))
    assert status == 0, text
    assert heavy(modules) <= {"collections.abc"}, "array needs it, to look for markers"
    assert not modules & {"ctypes", "zlib", "mmap", "harken.kernel.mounts", "harken.kernel.config"}
