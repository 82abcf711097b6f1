"""Tests of a live kernel run twice when they fail, and say so."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

_TESTS = """
import pytest

tries = {}

@pytest.fixture(scope="module")
def shared():
    tries["shared"] = tries.get("shared", 0) + 1
    return tries["shared"]

@pytest.fixture
def own():
    tries["own"] = tries.get("own", 0) + 1
    yield tries["own"]
    tries["ended"] = tries.get("ended", 0) + 1

@pytest.mark.kernel
def test_once(shared, own):
    assert shared == 1
    assert own == 2, "the first"
    assert tries["ended"] == 1

@pytest.mark.kernel
def test_always():
    tries["always"] = tries.get("always", 0) + 1
    assert False, f"failure {tries['always']}"

def test_of_no_kernel():
    tries["plain"] = tries.get("plain", 0) + 1
    assert tries["plain"] == 2

@pytest.fixture
def broken():
    tries["broken"] = tries.get("broken", 0) + 1
    raise RuntimeError(f"setup {tries['broken']}")

@pytest.mark.kernel
def test_setup(broken):
    pass

@pytest.fixture
def leaving():
    tries["leaving"] = tries.get("leaving", 0) + 1
    yield
    assert tries["leaving"] > 1, "left behind"

@pytest.mark.kernel
def test_that_leaves_something_once(leaving):
    pass

@pytest.fixture
def leaving_later():
    yield
    assert tries["later"] < 2, "left later"

@pytest.mark.kernel
def test_that_leaves_something_at_its_second_try(leaving_later):
    tries["later"] = tries.get("later", 0) + 1
    assert tries["later"] == 2, "the first of two"
"""


def test_a_failure_is_tried_again_and_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(_TESTS)
    result = pytester.runpytest_inprocess("-p", "harken.testing.pytest_plugin", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, failed=2, errors=3)
    text = result.stdout.str()
    assert "passed at the second try: test_a_failure_is_tried_again_and_told.py::test_once: AssertionError: the first" in text
    assert "failure 2" in text and "failure 1" in text and "failure 3" not in text  # the second failure, and the first below it
    assert "setup 1" in text and "setup 2" not in text
    assert "left behind" in text and "left later" in text and "the first of two" in text
    assert text.count("passed at the second try") == 1


class _Guest:
    """Says what it is told to; silent guests have no more to say."""

    console, up_after, state = "console.log", 1.0, "up"

    def __init__(self, messages):
        self.messages = messages

    def start(self):
        pass

    def stop(self):
        self.state = "dead"

    def log_tail(self):
        return "the end of it"

    def poll(self):
        messages, self.messages = self.messages, []
        return messages


@pytest.mark.parametrize("again", [True, False])
def test_a_test_in_which_a_guest_hung_has_a_second_try(pytestconfig, tmp_path, monkeypatch, again):
    from harken.testing import pytest_plugin

    def passed(test):
        reports = [pytest.TestReport(test, ("x.py", 1, test), {}, "passed", None, when) for when in ("setup", "call", "teardown")]
        return [{"event": "start", "test": test}, *({"event": "report", "data": report._to_json()} for report in reports)]

    hangs = [{"event": "start", "test": "two"}]
    boots = iter([[*passed("one"), *hangs], [*hangs] if again else [*passed("two"), *passed("three")], passed("three")])
    items = [SimpleNamespace(original=name, nodeid=f"{name}[6.1]", location=("x.py", 1, name)) for name in ("one", "two", "three")]
    run = pytest_plugin._Run(pytestconfig, "6.1", items, tmp_path)
    monkeypatch.setattr(run, "_boot", lambda tests: _Guest(next(boots)))
    monkeypatch.setattr(run, "_patience", -31.0)  # so that silence is noticed at once
    run.start()
    for _ in range(9):
        run.poll()
    call = run.reports["two"]["call"]
    assert call.outcome == ("failed" if again else "passed") and run.reports["three"]["call"].passed and run.boots == (3 if again else 2)
    assert "hung" in str(call.longrepr if again else dict(call.user_properties)["first try"])
