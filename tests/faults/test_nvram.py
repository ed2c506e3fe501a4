"""The twin that fails by plan: each trouble comes when it is planned, and its effect is known."""

import threading

import pytest

from hcall_server.faults.nvram import Fail, FaultyNvram, Planned, Stall
from hcall_server.nvram import NvramError, Trouble
from hcall_server.nvram.memory import MemoryNvram


@pytest.mark.parametrize("kind", ["full", "io", "busy", "corrupt"])
def test_the_planned_commit_fails_before_it_takes_effect(kind: Trouble) -> None:
    """R-23: the second commit fails with its kind and changes nothing; the third is fine again."""
    nvram = FaultyNvram(MemoryNvram(), [Planned("commit", 2, Fail(kind))])
    nvram.commit({"a": b"1"})
    with pytest.raises(NvramError, match="a planned fault") as caught:
        nvram.commit({"a": b"2"})
    assert (caught.value.kind, nvram.load()) == (kind, {"a": b"1"})
    nvram.commit({"a": b"3"})
    assert nvram.load() == {"a": b"3"}
    assert nvram.counts == {"load": 2, "commit": 3}


def test_a_commit_can_fail_after_it_took_effect() -> None:
    """R-23: the answer is lost, the change is not: as when the power goes between the two."""
    nvram = FaultyNvram(MemoryNvram(), [Planned("commit", 1, Fail("io", after=True))])
    with pytest.raises(NvramError):
        nvram.commit({"a": b"1"})
    assert nvram.load() == {"a": b"1"}


def test_loading_can_fail() -> None:
    """R-23: at start as well."""
    nvram = FaultyNvram(MemoryNvram({"a": b"1"}), [Planned("load", 1, Fail("corrupt"))])
    with pytest.raises(NvramError):
        nvram.load()
    assert nvram.load() == {"a": b"1"}


def test_trouble_lasts_until_it_is_healed() -> None:
    """R-23: a full disk stays full until somebody makes room."""
    nvram = FaultyNvram(MemoryNvram())
    nvram.trouble(Fail("full"))
    for _ in range(3):
        with pytest.raises(NvramError):
            nvram.commit({"a": b"1"})
    nvram.heal()
    nvram.commit({"a": b"1"})
    assert nvram.load() == {"a": b"1"}


def test_a_stalled_commit_goes_on_when_it_is_released() -> None:
    """R-23: a stall neither fails nor takes effect until it ends."""
    stall = Stall()
    nvram = FaultyNvram(MemoryNvram(), [Planned("commit", 1, stall)])
    worker = threading.Thread(target=nvram.commit, args=({"a": b"1"},))
    worker.start()
    assert stall.entered.wait(10)
    assert nvram.load() == {}
    stall.release.set()
    worker.join(10)
    assert nvram.load() == {"a": b"1"}


def test_trouble_may_last_for_so_many_commits() -> None:
    """R-75: what is left of it can be looked at; loading is not concerned."""
    nvram = FaultyNvram(MemoryNvram())
    nvram.trouble(Fail("io"), times=2)
    for left in (2, 1):
        lasting = nvram.lasting()
        assert lasting
        assert (lasting.trouble, lasting.left) == (Fail("io"), left)
        with pytest.raises(NvramError):
            nvram.commit({"a": b"1"})
        assert nvram.load() == {}
    assert nvram.lasting() is None
    nvram.commit({"a": b"1"})


def test_healing_lets_go_what_hangs() -> None:
    """R-75: the commit that hung goes on, later ones meet nothing."""
    nvram, stall = FaultyNvram(MemoryNvram()), Stall()
    nvram.trouble(stall)
    worker = threading.Thread(target=nvram.commit, args=({"a": b"1"},))
    worker.start()
    assert stall.entered.wait(10)
    nvram.heal()
    worker.join(10)
    nvram.commit({"b": b"2"})
    assert nvram.load() == {"a": b"1", "b": b"2"}
