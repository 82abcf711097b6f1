"""Compression of ``trace.dat``: the two algorithms that trace-cmd knows, zlib and zstd.

zlib is Python's own.  zstd is Python's ``compression.zstd`` (3.14), else the ``zstandard`` package (``pip install harken[zstd]``).

Sizes in a file may lie: nothing is expanded beyond the size that the caller states and allows.

Example:
    >>> packed = codec("zlib").compress(b"a" * 1000)
    >>> codec("zlib").expand(packed, 1000) == b"a" * 1000
    True
"""

from __future__ import annotations

from ..base.errors import FormatError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ("Codec", "codec", "available", "best")


class Codec:
    """One algorithm; ``version`` is what trace-cmd writes into the file beside the name."""

    def __init__(self, name: str, version: str, compress: Callable[[bytes], bytes] | None, expand: Callable[[Any, int], bytes]) -> None:
        self.name = name
        self.version = version
        self._compress = compress
        self._expand = expand

    @property
    def writes(self) -> bool:
        """Whether it can compress here (zstd may be missing)."""
        return self._compress is not None

    def compress(self, data: bytes) -> bytes:
        if self._compress is None:
            raise UsageError(f"{self.name} is not installed", "pip install 'harken[zstd]', or choose --compression zlib")
        return self._compress(data)

    def expand(self, data: Any, size: int, what: str = "", offset: int | None = None) -> bytes:
        """The original of ``data``, which must have ``size`` bytes.

        Args:
            what: the file that it comes from, and ``offset`` where it stands there, for errors.

        Raises:
            FormatError: it is not valid, or larger or smaller than stated.
        """
        label = f"{what}: {self.name} data" if what else f"{self.name} data"
        try:
            result = self._expand(data, size)
        except FormatError as error:  # it is not about these data
            raise FormatError(what or error.what, error.message.partition(": ")[2], hint=error.hint) from None
        except Exception as error:  # every library has its own class
            raise FormatError(label, str(error) or type(error).__name__, offset) from None
        if len(result) != size:
            raise FormatError(label, f"{len(result)} bytes instead of {size}", offset)
        return result


def codec(name: str) -> Codec:
    """The codec of a name in a file ("zlib", "zstd").

    Raises:
        FormatError: nobody knows such an algorithm.
    """
    if name == "zlib":
        import zlib

        return Codec("zlib", zlib.ZLIB_RUNTIME_VERSION, lambda data: zlib.compress(data, 6), _zlib_expand)
    if name == "zstd":
        return _zstd()
    raise FormatError("trace.dat", f"unknown compression algorithm {name[:32]!r}", hint="harken knows zlib and zstd")


def available() -> tuple[Codec, ...]:
    """What can be written here, the better one first."""
    return tuple(found for found in (codec("zstd"), codec("zlib")) if found.writes)


def best() -> Codec:
    """What ``--compression any`` means."""
    return available()[0]


def _zlib_expand(data: Any, size: int) -> bytes:
    import zlib

    return zlib.decompressobj().decompress(data, size + 1)


def _zstd() -> Codec:
    for make in (_zstd_standard, _zstd_package):
        found = make()
        if found is not None:
            return found
    return Codec("zstd", "", None, _zstd_missing)


def _zstd_missing(_data: Any, _size: int) -> bytes:
    raise FormatError("trace.dat", "it is compressed with zstd, which is not installed", hint="pip install 'harken[zstd]'")


def _zstd_standard() -> Codec | None:
    try:
        from compression import zstd
    except ImportError:
        return None
    return Codec("zstd", zstd.zstd_version, zstd.compress, lambda data, size: bytes(zstd.ZstdDecompressor().decompress(data, size + 1)))


def _zstd_package() -> Codec | None:
    try:
        import zstandard
    except ImportError:
        return None
    version = ".".join(str(part) for part in zstandard.ZSTD_VERSION)

    def expand(data: Any, size: int) -> bytes:
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            return bytes(reader.read(size + 1))

    return Codec("zstd", version, lambda data: bytes(zstandard.ZstdCompressor().compress(data)), expand)
