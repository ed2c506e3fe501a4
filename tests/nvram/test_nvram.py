"""The behaviour that every back end of NVRAM must have."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcall_server.faults.nvram import FaultyNvram
from hcall_server.nvram import COMMIT, Nvram
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.nvram.sqlite import SqliteNvram
from tests.nvram.etcd_members import Members, opened, running
from tests.nvram.test_etcd_model import Lab

Maker = Callable[[], Nvram]


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    """An etcd of one member; each test has a prefix of its own."""
    with running(tmp_path_factory.mktemp("etcd"), 1) as members:
        yield members


@pytest.fixture(
    params=["memory", "sqlite", "faulty", "etcd in memory", pytest.param("etcd", marks=pytest.mark.process)]
)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Maker:
    """A function that opens the same NVRAM at each call."""
    if request.param == "etcd":
        request.getfixturevalue("not_measured")
        endpoints = request.getfixturevalue("member").endpoints
        return lambda: opened(endpoints, tmp_path.name)
    memory, cluster = MemoryNvram(), Lab()
    makers: dict[str, Maker] = {
        "memory": lambda: memory,
        "sqlite": lambda: SqliteNvram(tmp_path / "nvram.db"),
        "faulty": lambda: FaultyNvram(memory),
        "etcd in memory": cluster.opened,
    }
    return makers[request.param]


def test_a_new_nvram_is_empty(make: Maker) -> None:
    """A new NVRAM has no records, not even for bookkeeping."""
    nvram = make()
    assert nvram.load() == {}
    nvram.close()


def test_records_are_put_replaced_and_removed_in_one_commit(make: Maker) -> None:
    """R-22: one commit changes many records. A record that does not exist may be removed."""
    nvram = make()
    nvram.commit({"system": b"s", "partition/00001/image": b"one", "partition/00002/image": b""})
    nvram.commit({"partition/00001/image": b"two" * 50_000, "partition/00002/image": None, "absent": None})
    nvram.commit({})
    assert nvram.load() == {"system": b"s", "partition/00001/image": b"two" * 50_000}
    nvram.close()


def test_records_survive_closing(make: Maker) -> None:
    """R-21: committed records are there when NVRAM is opened again. A second close is harmless."""
    nvram = make()
    nvram.commit({"system": bytes(range(256)) * 300})
    nvram.close()
    nvram.close()
    again = make()
    assert again.load() == {"system": bytes(range(256)) * 300}
    again.close()


def test_the_commit_record_in_effect_is_returned(make: Maker) -> None:
    """R-22: it is the one of the last commit, None before the first."""
    nvram = make()
    assert nvram.last_commit() is None
    nvram.commit({COMMIT: b"1", "system": b"s"})
    nvram.commit({COMMIT: b"2", "system": None})
    assert nvram.last_commit() == b"2"
    nvram.close()
    again = make()
    assert again.last_commit() == b"2"
    again.close()


def test_what_was_loaded_is_a_copy(make: Maker) -> None:
    """A change of the loaded dictionary changes no record."""
    nvram = make()
    nvram.commit({"system": b"s"})
    nvram.load().clear()
    assert nvram.load() == {"system": b"s"}
    nvram.close()


changes = st.dictionaries(
    st.sampled_from(["system", "partition/00001/image", "partition/00001/profile", "partition/00002/image"]),
    st.none() | st.binary(max_size=20) | st.integers(4000, 9000).map(bytes),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(st.tuples(changes, st.booleans()), max_size=6))
def test_any_history_ends_in_what_it_says(
    make: Maker, history: list[tuple[dict[str, bytes | None], bool]]
) -> None:
    """R-22: after any commits and re-openings, the records equal those in a plain dictionary."""
    nvram = make()
    nvram.commit(dict.fromkeys(nvram.load()))
    expected: dict[str, bytes | None] = {}
    for change, reopen in history:
        nvram.commit(change)
        expected |= change
        if reopen:
            nvram.close()
            nvram = make()
        assert nvram.load() == {name: blob for name, blob in expected.items() if blob is not None}
    nvram.close()
