"""NVRAM with planned faults: each fault occurs when it was planned, and has a known effect."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.faults import NvramFault
from hcall_server.faults.nvram import FaultyNvram
from hcall_server.nvram import Nvram, NvramError, Trouble
from tests.nvram.backends import BACKENDS, backend_of


@pytest.fixture(params=BACKENDS)
def inner(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Nvram]:
    """The NVRAM behind the faults, of each back end."""
    nvram = backend_of(request.param, tmp_path).opened()
    yield nvram
    nvram.close()


@pytest.mark.parametrize("kind", ["full", "io", "busy", "corrupt"])
def test_the_planned_commit_fails_before_it_takes_effect(inner: Nvram, kind: Trouble) -> None:
    """R-23: a fault with nth=2 fails the second commit, which changes nothing. The third commit works."""
    nvram = FaultyNvram(inner, [NvramFault(kind, nth=2)])
    nvram.commit({"a": b"1"})
    with pytest.raises(NvramError, match="a planned fault") as caught:
        nvram.commit({"a": b"2"})
    assert (caught.value.kind, nvram.load()) == (kind, {"a": b"1"})
    nvram.commit({"a": b"3"})
    assert nvram.load() == {"a": b"3"}
    assert nvram.counts == {"load": 2, "commit": 3}


def test_a_commit_can_fail_after_it_took_effect(inner: Nvram) -> None:
    """R-23: with `after`, a commit takes effect and then fails, as if a power cut lost its answer."""
    nvram = FaultyNvram(inner, [NvramFault("io", after=True)])
    with pytest.raises(NvramError):
        nvram.commit({"a": b"1"})
    assert nvram.load() == {"a": b"1"}


def test_loading_can_fail(inner: Nvram) -> None:
    """R-23: a load, which a start needs, can fail."""
    inner.commit({"a": b"1"})
    nvram = FaultyNvram(inner, [NvramFault("corrupt", operation="load")])
    with pytest.raises(NvramError):
        nvram.load()
    assert nvram.load() == {"a": b"1"}


def test_trouble_lasts_until_it_is_healed(inner: Nvram) -> None:
    """R-23: a disk with the fault "full" stays full until the test removes the fault."""
    nvram = FaultyNvram(inner)
    nvram.set_faults(NvramFault("full", times=None))
    for _ in range(3):
        with pytest.raises(NvramError):
            nvram.commit({"a": b"1"})
    nvram.set_faults()
    nvram.commit({"a": b"1"})
    assert nvram.load() == {"a": b"1"}


def test_a_stalled_commit_goes_on_when_it_is_released(inner: Nvram) -> None:
    """R-23: a stalled commit neither fails nor takes effect before the fault ends."""
    nvram = FaultyNvram(inner, [NvramFault("stall", times=None)])
    worker = threading.Thread(target=nvram.commit, args=({"a": b"1"},))
    worker.start()
    assert nvram.stalled.wait(10)
    assert nvram.active()
    assert nvram.load() == {}
    nvram.set_faults()
    worker.join(10)
    assert nvram.load() == {"a": b"1"}


def test_trouble_may_last_for_so_many_commits(inner: Nvram) -> None:
    """R-75: a fault may last for a number of commits.

    `active` shows how many have failed; loads are not counted.
    """
    nvram = FaultyNvram(inner)
    nvram.set_faults(NvramFault("io", times=2))
    for answered in (0, 1):
        active = nvram.active()
        assert active
        assert (active.fault, active.answered) == (NvramFault("io", times=2), answered)
        with pytest.raises(NvramError):
            nvram.commit({"a": b"1"})
        assert nvram.load() == {}
    assert nvram.active() is None
    nvram.commit({"a": b"1"})


def test_healing_lets_go_what_hangs(inner: Nvram) -> None:
    """R-75: when a fault is removed, the commit that waits goes on, and later commits meet no fault."""
    nvram = FaultyNvram(inner)
    nvram.set_faults(NvramFault("stall", times=None))
    worker = threading.Thread(target=nvram.commit, args=({"a": b"1"},))
    worker.start()
    assert nvram.stalled.wait(10)
    nvram.set_faults()
    worker.join(10)
    nvram.commit({"b": b"2"})
    assert nvram.load() == {"a": b"1", "b": b"2"}


def test_a_fault_that_makes_no_sense_is_refused() -> None:
    """R-75: a fault without a meaning raises an OperatorError that names the page about faults."""
    for wrong in (
        {"trouble": "fire"},
        {"trouble": "io", "nth": 0},
        {"trouble": "io", "times": 0},
        {"trouble": "stall"},
        {"trouble": "stall", "times": None, "after": True},
    ):
        with pytest.raises(OperatorError) as caught:
            NvramFault(**wrong)
        assert caught.value.rule.page == "spec/faults.md#nvram"
