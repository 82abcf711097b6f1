"""The code image: the compiled modules that starts of ``harken`` have needed, in one file of the cache (``base.cache``).

Python finds a module by looking into folders, opens its ``.pyc``, asks for the time of its source and reads: 0.1 ms in which little is
done, and a start from a warm cache imports 55 modules, one that compiles 130.  The image holds the contents of those ``.pyc`` files behind
one another with an index; what is needed of it is read.  A module is taken from it only if its source has not been touched since: it is of
the same size and time of change (``st_ctime``, which nobody can set: an installer that gives all files one time of modification replaces
``.pyc`` files, too, but knows nothing of this file).  Of others the ``.pyc`` file is read, in fewer steps than Python takes; what has no
valid one is imported as always.  All has checksums: damaged code might end Python itself.

Python's import system itself takes 60 us a module, and each has its own copy of the names that it shares with others.  So what one import
brings with it is kept a second time as a group: the modules in the order in which they ran, read as one.  The import system's locks are
left out, too, so groups are only used while there is one thread.

Only commands use it (``harken``, ``python -m harken.bcc``): ``use`` at the start, ``CodeImage.extend`` at the end, which adds what had to
be imported the long way.  What a running trace imports later opens no files then, and so does not show up in the events of a program that
watches opens.
"""

from __future__ import annotations

import marshal
import os
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, SourceFileLoader
from _imp import _fix_co_filename, source_hash  # type: ignore[attr-defined]
from _thread import _count as other_threads

from . import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import CodeType, ModuleType
    from typing import Any

__all__ = ("CodeImage", "ImageLoader", "pack", "use")

_KIND, _FORM = "code", 2  # another number for each form of what is kept
_PACKAGE = __name__.partition(".")[0]
_PYC_HEAD = 16  # of a .pyc file (PEP 552): magic number, flags, time and size of the source (four bytes each) or its hash
_BLOCK = 1 << 16
_CHECK = 8  # bytes of the index's checksum
_UNCHECKED = b"\1\0\0\0"  # flags: valid by hash, and Python takes it whatever the source is, as builders of reproducible packages have it
#: So many modules that the image did not have are worth writing it anew.
_WORTH = 4


class CodeImage:
    """A finder for ``sys.meta_path``.

    Args:
        root: the folder of the package.
        data: what ``pack`` made; of anything else, nothing is used.

    Attributes:
        index: the modules in it: name -> (where the code is, its length, size of the source and when it was changed (``st_ctime_ns``),
            whether it is a package, the code's checksum).
        groups: what importing a module brings with it: name -> (where the codes are, their length, the names, its own last, checksum).
    """

    def __init__(self, root: str, data: bytes | cache.Pieces = b"") -> None:
        self.root, self._data = root, data
        self.index: dict[str, tuple[int, int, int, int, bool, bytes]] = {}
        self.groups: dict[str, tuple[int, int, tuple[str, ...], bytes]] = {}
        #: modules whose code is not in it, but in Python's own file
        self._loose: dict[str, tuple[bytes, int, int, bool]] = {}
        self._seen: dict[str, tuple[str, ...]] = {}
        self._running: list[str] | None = None
        start = len(MAGIC_NUMBER)
        head = data[: start + 4 + _CHECK]
        if head[:start] == MAGIC_NUMBER:
            index = data[int.from_bytes(head[start : start + 4], "little") :]
            if head[start + 4 :] == _checksum(index):
                self.index, self.groups = marshal.loads(index)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """What the import system asks."""
        entry = self.index.get(name)
        if entry is None and not name.startswith(_PACKAGE + "."):
            return None
        folder = self.root + name[len(_PACKAGE) :].replace(".", "/")
        for package in (False, True) if entry is None else (entry[4],):
            source = f"{folder}/__init__.py" if package else f"{folder}.py"
            try:
                state = os.stat(source)
                break
            except OSError:
                continue
        else:
            return None
        if package:
            stem = "__init__"
        else:
            folder, _, stem = folder.rpartition("/")
        cached = f"{folder}/__pycache__/{stem}.{sys.implementation.cache_tag}.pyc"
        if entry is None or state.st_size != entry[2] or state.st_ctime_ns != entry[3]:
            code = _compiled(cached, state)
            if code is None:
                return None
            self._loose[name] = code, state.st_size, state.st_ctime_ns, package
        spec = ModuleSpec(name, ImageLoader(name, source, self), origin=source, is_package=package)
        if package:
            spec.submodule_search_locations = [folder]
        spec.has_location = True
        spec.cached = cached
        return spec

    def code(self, name: str) -> bytes:
        """The marshalled code of a module; b"" if it is damaged."""
        if name in self._loose:
            return self._loose[name][0]
        start, length, *_, check = self.index[name]
        return self._part(start, length, check)

    def _part(self, start: int, length: int, check: bytes) -> bytes:
        data = self._data[start : start + length]
        return data if _checksum(data) == check else b""

    def renew(self, name: str) -> None:
        """The code of a module is damaged: what Python has kept of it takes its place, and is kept at the end."""
        self.index.pop(name, None)
        self._loose.pop(name, None)
        self.find_spec(name)

    def run(self, module: ModuleType, alone: Callable[[ModuleType], None]) -> None:
        """Runs the code of a module that the import system has made, with its group if that is as it was; ``alone`` runs only its own."""
        if other_threads():  # they would see modules of a group before these are complete
            alone(module)
            return
        name = module.__name__
        group = self.groups.get(name)
        if group is not None and self._running is None and self._run_group(module, *group):
            return
        outer = self._running
        done = self._running = [] if outer is None else outer
        try:
            alone(module)
            done.append(name)
        finally:
            self._running = outer
        if outer is None and len(done) >= _WORTH:
            self._seen[name] = tuple(done)

    def _run_group(self, module: ModuleType, start: int, length: int, names: tuple[str, ...], check: bytes) -> bool:
        """Runs a group; False if something of it has changed, and its last module has not run."""
        wanted = [(name, None if name in sys.modules else self.find_spec(name)) for name in names]
        for name, spec in wanted:
            parent = name.rpartition(".")[0]
            if (spec is None and name not in sys.modules) or name in self._loose or (parent not in sys.modules and parent not in names):
                return False
        try:
            codes = marshal.loads(self._part(start, length, check))
        except (EOFError, TypeError, ValueError):
            return False
        # packages whose turn comes after that of a module in them, which they import
        early: dict[str, ModuleType] = {}
        specs = {name: spec for name, spec in wanted if spec is not None}
        try:
            for (name, spec), code in zip(wanted, codes):
                parent, _, own = name.rpartition(".")
                if parent not in sys.modules:
                    early[parent] = sys.modules[parent] = _module(specs[parent])
                if spec is None:
                    if name == names[-1]:
                        _fix_co_filename(code, module.__file__)
                        exec(code, module.__dict__)
                    continue
                fresh = early.pop(name, None)
                if fresh is None:
                    if name in sys.modules:  # one of those before has imported it
                        continue
                    fresh = sys.modules[name] = _module(spec)
                try:
                    _fix_co_filename(code, spec.origin)
                    exec(code, fresh.__dict__)
                except Exception:  # told where it is imported, by whom may expect it
                    del sys.modules[name]
                    return False
                setattr(sys.modules[parent], own, fresh)
        finally:
            for name in early:  # what did not get its turn
                sys.modules.pop(name, None)
        return True

    def extend(self) -> bool:
        """Keeps an image with what this process imported without it, if that is worth it; returns whether it did.  Never raises."""
        if not cache.writable():
            return False
        fresh = dict(self._loose)
        for name, module in list(sys.modules.items()):
            # what was imported before the image was in place, and what Python had to compile
            if name.partition(".")[0] == _PACKAGE and type(getattr(module, "__loader__", None)) is SourceFileLoader:
                try:
                    state = os.stat(module.__file__ or "")
                    if self.index.get(name, ())[2:4] == (state.st_size, state.st_ctime_ns):
                        continue
                    code = _compiled(module.__cached__, state)
                except (OSError, AttributeError, TypeError):
                    continue
                if code is not None:
                    fresh[name] = code, state.st_size, state.st_ctime_ns, hasattr(module, "__path__")
        if len(fresh) < _WORTH and not self._seen:
            return False
        known = {}
        for name, (start, length, size, time, package, check) in self.index.items():
            code = self._part(start, length, check)
            if code:
                known[name] = code, size, time, package
        if self.index and not known:  # it cannot be read any more
            return False
        groups, made = dict(self._seen), {}
        for name, (start, length, names, check) in self.groups.items():
            # of code that has changed, the order may be another now
            if name not in groups and not any([one in fresh for one in names]):
                groups[name], made[name] = names, self._part(start, length, check)
        return cache.store(_KIND, _key(self.root), pack({**known, **fresh}, groups, made))


def pack(
    modules: dict[str, tuple[bytes, int, int, bool]],
    groups: dict[str, tuple[str, ...]] | None = None,
    made: Mapping[str, bytes] | None = None,
) -> bytes:
    """An image.

    Args:
        modules: name -> (marshalled code, size and ``st_ctime_ns`` of the source, whether it is a package).
        groups: name -> names of the modules that importing it runs, in that order; those that are not all there are left out.
        made: what an image has of groups already.
    """
    index, together = {}, {}
    parts: list[bytes] = []
    start = len(MAGIC_NUMBER) + 4 + _CHECK
    for name, (data, size, time, package) in modules.items():
        index[name] = (start, len(data), size, time, package, _checksum(data))
        parts.append(data)
        start += len(data)
    for name, names in (groups or {}).items():
        if all([one in modules for one in names]):
            try:
                data = (made or {}).get(name) or marshal.dumps(tuple([marshal.loads(modules[one][0]) for one in names]))
            except (EOFError, TypeError, ValueError):
                continue
            together[name] = (start, len(data), names, _checksum(data))
            parts.append(data)
            start += len(data)
    end = marshal.dumps((index, together))
    return b"".join((MAGIC_NUMBER, start.to_bytes(4, "little"), _checksum(end), *parts, end))


def _checksum(data: bytes) -> bytes:
    """Of Python's own for sources: it is built in, everything else that could serve is a library to be loaded."""
    return source_hash(0, data)


def _module(spec: ModuleSpec) -> ModuleType:
    """A module as the import system makes it."""
    made = type(sys)(spec.name)
    package = spec.name if spec.submodule_search_locations is not None else spec.name.rpartition(".")[0]
    made.__dict__.update(__spec__=spec, __loader__=spec.loader, __file__=spec.origin, __cached__=spec.cached, __package__=package)
    if spec.submodule_search_locations is not None:
        made.__path__ = spec.submodule_search_locations
    return made


class ImageLoader(SourceFileLoader):
    """Python's own loader of source files (for their text, and resources), which takes the code from the image."""

    def __init__(self, name: str, path: str, image: CodeImage) -> None:
        super().__init__(name, path)
        self._image = image

    def exec_module(self, module: ModuleType) -> None:
        self._image.run(module, super().exec_module)

    def get_code(self, fullname: str) -> CodeType | None:
        try:
            code: Any = marshal.loads(self._image.code(fullname))
        except (EOFError, TypeError, ValueError):
            self._image.renew(fullname)
            return super().get_code(fullname)
        _fix_co_filename(code, self.path)  # the package may have been moved since it was compiled
        return code  # type: ignore[no-any-return]


def _compiled(cached: str, state: os.stat_result) -> bytes | None:
    """The marshalled code that Python has kept in a file, if it is that of a source of some size and time."""
    if sys.flags.optimize or sys.pycache_prefix is not None:
        return None  # it is in another file
    try:
        fd = os.open(cached, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = part = os.read(fd, _BLOCK)
        while len(part) == _BLOCK:
            part = os.read(fd, _BLOCK)
            data += part
    except OSError:
        return None
    finally:
        os.close(fd)
    time, size = (int(state.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little"), (state.st_size & 0xFFFFFFFF).to_bytes(4, "little")
    if data[:_PYC_HEAD] != MAGIC_NUMBER + bytes(4) + time + size and data[:8] != MAGIC_NUMBER + _UNCHECKED:
        return None  # of another source, or one that is compared in another way
    return data[_PYC_HEAD:]


def _key(root: str) -> str:
    plain = root if "=" in root or "+" in root else root.replace("/", "=").replace(".", "+")  # which is a file's name without a digest
    return f"{plain}+{sys.implementation.cache_tag}+{sys.flags.optimize}+{_FORM}"


def use() -> CodeImage:
    """Puts the package's image in front of the import system."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    image = CodeImage(root, cache.pieces(_KIND, _key(root)) or b"")
    sys.meta_path.insert(0, image)
    return image
