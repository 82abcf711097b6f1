"""Builds the accelerator (src/harken/native) into the wheel where a C compiler is at hand; without one the wheel is pure Python.

Nothing needs the accelerator: what it does, plain Python does too, slower.  A wheel that contains it runs with every CPython on the
platform, since its C code knows nothing of Python.  One loop is called so early that ctypes would take longer to load than it takes: where
Python's headers are at hand, that one is a module of its own, with the limited API.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = ("-O2", "-std=gnu11", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wl,-z,now")


class CustomBuildHook(BuildHookInterface[Any]):
    """Compiles src/harken/native/*.c into one library beside them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        folder = Path(self.root, "src", "harken", "native")
        sources = sorted(str(path) for path in folder.glob("*.c"))
        compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", ""), "cc", "gcc", "clang"))), None)
        if compiler is None or os.environ.get("HARKEN_NATIVE") == "0":
            self.app.display_info("harken: no C compiler, so without the accelerator; everything works, reports are slower")
            return
        library = folder / "native.so"
        fresh = folder / f"native.{os.getpid()}.so"
        done = subprocess.run([compiler, *FLAGS, "-o", str(fresh), *sources], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            fresh.unlink(missing_ok=True)
            self.app.display_warning(f"harken: {compiler} could not build the accelerator, so without it:\n{done.stderr}")
            return
        fresh.replace(library)  # processes that have the old one mapped keep it
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["artifacts"].append("src/harken/native/native.so")
        headers = sysconfig.get_path("include")
        if Path(headers, "Python.h").is_file():
            fresh = folder / f"mover.{os.getpid()}.so"
            sources = [str(folder / name) for name in ("python/mover.c", "record.c", "version.c")]
            done = subprocess.run(
                [compiler, *FLAGS, f"-I{headers}", "-o", str(fresh), *sources], capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                fresh.replace(folder / "mover.abi3.so")
                build_data["artifacts"].append("src/harken/native/mover.abi3.so")
            else:
                fresh.unlink(missing_ok=True)
                self.app.display_warning(f"harken: {compiler} could not build the module that moves pages:\n{done.stderr}")
