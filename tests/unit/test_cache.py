"""base.cache: what is stored comes back, what cannot be trusted does not."""

from __future__ import annotations

import os
import threading

import pytest

from harken.base import cache


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    path = tmp_path / "cache"
    monkeypatch.setenv("HARKEN_CACHE", str(path))
    return path


def only_file(directory):
    (name,) = os.listdir(directory)
    return directory / name


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 5000])
@pytest.mark.parametrize("key", ["plain-key", "any key / with ../ bytes \udc80 é", ""])
def test_round_trip(key, data):
    assert cache.load("unit", key) is None
    assert cache.store("unit", key, data)
    assert cache.load("unit", key) == data
    view = cache.mapped("unit", key)
    assert view is not None and bytes(view) == data
    assert cache.load("other", key) is None


def test_pieces_of_a_file_whose_descriptor_was_closed(tmp_path):
    """As a daemon closes all; another file has the number then."""
    cache.store("unit", "k", bytes(range(200)))
    found, gone = cache.pieces("unit", "k"), cache.pieces("unit", "k")
    assert found is not None and gone is not None and found[3:7] == bytes(range(3, 7)) and found[190:] == bytes(range(190, 200))
    os.close(gone._fd)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    os.write(other, bytes(300))
    os.dup2(other, found._fd)
    number = found._fd
    assert found[3:7] == gone[3:7] == b""
    del found, gone
    assert os.fstat(number).st_size == 300, "it is not ours to close"
    os.close(number)
    os.close(other)


def test_replaced_while_mapped():
    cache.store("unit", "k", b"old" * 1000)
    view = cache.mapped("unit", "k")
    cache.store("unit", "k", b"new")
    assert view is not None and bytes(view[:3]) == b"old"
    assert cache.load("unit", "k") == b"new"


def test_directory_is_private_and_names_stay_inside(directory):
    cache.store("unit", "../../x", b"1")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert only_file(directory).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_writable_by_others_is_refused(directory, mode):
    cache.store("unit", "k", b"1")
    only_file(directory).chmod(mode)
    assert cache.load("unit", "k") is None
    directory.chmod(0o770)
    assert cache.cache_dir() is None


def test_symbolic_links_and_foreign_keys_are_refused(directory, tmp_path):
    cache.store("unit", "k", b"1")
    path = only_file(directory)
    target = tmp_path / "moved"
    path.rename(target)
    path.symlink_to(target)
    assert cache.load("unit", "k") is None
    path.unlink()
    target.rename(directory / "unit.other")
    assert cache.load("unit", "other") is None


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"x", lambda d: b"X" + d[1:], lambda d: b"", lambda d: d[:10]])
def test_damaged_files_are_refused(directory, change):
    cache.store("unit", "k", b"12345")
    path = only_file(directory)
    path.write_bytes(change(path.read_bytes()))
    assert cache.load("unit", "k") is None
    assert cache.mapped("unit", "k") is None


def test_off(monkeypatch):
    for value in ("", "off"):
        monkeypatch.setenv("HARKEN_CACHE", value)
        assert cache.cache_dir() is None
        assert not cache.store("unit", "k", b"")
        assert cache.load("unit", "k") is None


def test_no_directory_can_be_made(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARKEN_CACHE", str(tmp_path / "file" / "below"))
    assert not cache.store("unit", "k", b"")


def test_prunes_the_least_recently_used(directory, monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 100_000)
    for i in range(10):
        cache.store("unit", f"k{i}", bytes(9_000))
        os.utime(directory / f"unit.k{i}", (1000 + i, 1000 + i))
    cache.load("unit", "k0")  # a use makes it young again
    cache.store("unit", "new", bytes(20_000))
    assert cache.load("unit", "k0") and cache.load("unit", "new") and cache.load("unit", "k9")
    assert cache.load("unit", "k1") is None
    assert sum(e.stat().st_size for e in os.scandir(directory)) <= 75_000
    assert not cache.store("unit", "huge", bytes(60_000))


def test_writers_that_died_are_cleaned_up(directory):
    cache.store("unit", "a", b"")
    stale = directory / ".1.1.unit.b"
    stale.write_text("half")
    os.utime(stale, (0, 0))
    cache.store("unit", "c", b"")
    assert not stale.exists()


def test_two_writers_at_once():
    def write(letter):
        for _ in range(50):
            cache.store("unit", "k", letter * 100_000)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    for _ in range(100):
        data = cache.load("unit", "k")
        assert data is None or (len(data) == 100_000 and data in (b"a" * 100_000, b"b" * 100_000))
    for writer in writers:
        writer.join()
