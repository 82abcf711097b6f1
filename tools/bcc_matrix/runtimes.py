"""Runtimes of languages, and a database, for the tools that watch them: each is started once and works by itself from then on.

What is not on this machine is left out, and cases that need it say so.  Some of Debian's builds have no static markers; there the tool is
run against the real runtime, which shows what harken says of it, and a second time against a stand-in: a small C program that fires the
markers which that runtime's own sources define (`runtimes/stand_in.c`; it needs gcc and Debian's systemtap-sdt-dev).
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

__all__ = ("NAMES", "Runtimes", "needed")

HERE = Path(__file__).parent / "runtimes"
#: placeholders that stand for the pid of a runtime, and the Debian packages that those are from
NAMES: dict[str, str] = {
    "java": "openjdk-17-jre-headless", "node": "nodejs", "perl": "perl", "php": "php-cli", "postgres": "postgresql", "python": "python3",
    "ruby": "ruby", "tclsh": "tcl", "perl_markers": "gcc and systemtap-sdt-dev", "tclsh_markers": "gcc and systemtap-sdt-dev",
    "node_markers": "gcc and systemtap-sdt-dev", "threads_markers": "gcc and systemtap-sdt-dev",
    "java_threads_markers": "openjdk-17-jre-headless, gcc and systemtap-sdt-dev",
}  # fmt: skip
_FILES = {
    "java": "Work.java",
    "node": "work.js",
    "perl": "work.pl",
    "php": "work.php",
    "python": "work.py",
    "ruby": "work.rb",
    "tclsh": "work.tcl",
}
_PATIENCE = 30.0


class _NotInstalled(Exception):
    """A program that a runtime needs is not here."""


def needed(args: list[str] | tuple[str, ...], tool: str) -> list[str]:
    """The runtimes that a case needs: those its arguments name, and for ...stat, which take no pid, that of the tool's name."""
    found = [name for name in NAMES if any("{" + name + "}" in word for word in args)]
    if tool.endswith("stat") and (short := tool.removesuffix("stat").replace("tcl", "tclsh")) in NAMES:
        found.append(short + "_markers" if short + "_markers" in NAMES else short)
    if tool == "ustat":
        found += [name for name in NAMES if name in args or name.replace("sh", "") in args]
    if tool in ("dbstat", "dbslower") and "postgres" in args:
        found.append("postgres")
    return found


class Runtimes:
    """What was started, by name.

    Args:
        folder: for what is compiled, data of the database, and links whose names the processes bear.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder, "runtimes")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o755)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._server: subprocess.Popen[bytes] | None = None
        self._found: dict[str, int | str] = {}

    def pid(self, name: str) -> int:
        """A runtime's process, started if it is not yet; 0: it cannot be (see `missing`)."""
        if name not in self._found:
            try:
                self._found[name] = self._start(name)
            except _NotInstalled:
                self._found[name] = f"{NAMES[name]} is not installed"
            except (OSError, subprocess.SubprocessError, RuntimeError) as error:
                self._found[name] = f"{name} could not be started: {error}"
        found = self._found[name]
        return found if isinstance(found, int) else 0

    def missing(self, name: str) -> str:
        """Why there is no such process."""
        return str(self._found.get(name, ""))

    def close(self) -> None:
        """Ends what was started."""
        for process in self._processes:
            process.send_signal(signal.SIGINT if process is self._server else signal.SIGKILL)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, name: str) -> int:
        if name == "postgres":
            return self._postgres()
        environment = {**os.environ, "USE_ZEND_DTRACE": "1"}
        if name.endswith("_markers") and "threads" not in name:
            return self._run([self._compiled("stand_in.c", name.removesuffix("_markers"))], environment)
        if name.endswith("_markers"):
            environment["LD_PRELOAD"] = self._compiled("pthread_start.c", "pthread_start.so", "-shared", "-fPIC")
        if "java" in name:
            return self._run(
                [_program("java"), "-XX:+ExtendedDTraceProbes", "-XX:+UseSerialGC", "-Xmx128m", str(HERE / "Work.java")], environment
            )
        if name == "threads_markers":
            return self._run([sys.executable, str(HERE / "work_threads.py")], environment)
        program = _python() if name == "python" else _program(name)
        if name == "python" and "HARKEN_GUEST" in os.environ:
            environment["PYTHONHOME"] = sys.base_prefix
        return self._run([self._link(name, program), str(HERE / _FILES[name])], environment)

    def _link(self, name: str, program: str) -> str:
        """A link, so that the process is called as the language is ("python", not "python3.11"): the ...stat tools look for that."""
        link = self._folder / name
        if not link.exists():
            link.symlink_to(os.path.realpath(program))
        return str(link)

    def _run(self, words: list[str], environment: dict[str, str]) -> int:
        """Starts a process and waits until it says that it is ready."""
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        self._processes.append(process)
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], _PATIENCE)[0] or b"ready" not in os.read(process.stdout.fileno(), 100):
            raise RuntimeError(f"{words[0]} did not say that it is ready")
        return process.pid

    def _compiled(self, source: str, name: str, *options: str) -> str:
        if shutil.which("gcc") is None:
            raise _NotInstalled
        target = str(self._folder / "made" / name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        done = subprocess.run(["gcc", "-O1", *options, "-o", target, str(HERE / source)], capture_output=True, text=True)
        if "sys/sdt.h" in done.stderr:
            raise _NotInstalled
        if done.returncode:
            raise RuntimeError(done.stderr[:300])
        return target

    def _postgres(self) -> int:
        """A database of our own and a client that asks it something again and again; the process that answers it."""
        servers = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        if not servers:
            raise _NotInstalled
        folder, binaries = self._folder / "postgres", servers[-1].parent
        folder.mkdir(exist_ok=True)
        shutil.chown(folder, "postgres")
        null = subprocess.DEVNULL
        words = [str(binaries / "initdb"), "-D", f"{folder}/data", "-A", "trust", "--no-sync", "--no-instructions"]
        subprocess.run(words, user="postgres", check=True, cwd="/", stdin=null, stdout=null, stderr=null)
        server = [str(binaries / "postgres"), "-D", f"{folder}/data", "-k", str(folder), "-c", "listen_addresses="]
        self._server = subprocess.Popen(server, user="postgres", cwd="/", start_new_session=True, stdin=null, stdout=null, stderr=null)
        self._processes.append(self._server)
        asked = "select pg_backend_pid() as ready;\nselect count(*), pg_sleep(0.01) from pg_class \\watch 0.2\n"
        end = time.monotonic() + _PATIENCE
        while subprocess.run([str(binaries / "pg_isready"), "-q", "-h", str(folder)]).returncode:
            if time.monotonic() > end:
                raise RuntimeError("the server is not ready")
            time.sleep(0.1)
        client = subprocess.Popen(
            [str(binaries / "psql"), "-h", str(folder), "-U", "postgres", "-At", "-f", "-"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/",
        )  # fmt: skip
        self._processes.insert(0, client)
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write(asked.encode())
        client.stdin.close()
        return int(client.stdout.readline())


def _program(name: str) -> str:
    found = shutil.which(name, path="/usr/bin:/bin")
    if found is None:
        raise _NotInstalled
    return found


def _python() -> str:
    """Debian's has static markers."""
    debian = "/usr/bin/python3.11"
    return debian if os.path.exists(debian) else os.path.realpath(sys.executable)
