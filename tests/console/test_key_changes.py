"""Another trusted system key: all copies are made again, and the new key file alone restores the stores."""

from __future__ import annotations

import pytest
import trio

from hcall_abi.requests import set_trusted_key, show_trusted_key
from tests.console.rig import Site, running
from tests.console.test_recovery import KEY, demand_recovered, filled, lost_whole


@pytest.mark.parametrize("operation", ["change", "restore"])
async def test_another_key_makes_all_copies_anew(operation, autojump_clock) -> None:
    """R-44, R-53: unchanged stores get new copies too; the file of the new key alone restores them."""
    async with running(Site()) as rig:
        await filled(rig)
        old = (await rig.ask(show_trusted_key())).id
        began = trio.current_time()
        new = (await rig.ask(set_trusted_key(operation, key=KEY))).id
        await rig.until(lambda: {each.trusted_key_id for each in rig.system.copies} == {new})
        # The system asks for copies at once. It does not wait for its regular interval.
        assert trio.current_time() - began < 1
        assert {each.name for each in rig.system.copies} == {"a", "b"}
        assert new is not None
        assert old != new
        assert rig.store.trusted_key(rig.system.key, new) is not None
        await lost_whole(rig)
        await rig.ask(set_trusted_key("restore", key=KEY))
        await rig.ended(rig.console.recover(rig.system))
        await demand_recovered(rig)


async def test_the_old_copies_stay_until_the_last_new_one_has_come(autojump_clock) -> None:
    """R-44: at every moment the console has a full set of copies under one of the keys."""
    async with running(Site()) as rig:
        await filled(rig)
        old = (await rig.ask(show_trusted_key())).id
        sets = list[dict[str, set[str]]]()
        keep = rig.store.keep_copy

        def watched(*arguments):
            kept = keep(*arguments)
            found = dict[str, set[str]]()
            for each in rig.system.copies:
                found.setdefault(each.trusted_key_id, set()).add(each.name)
            sets.append(found)
            return kept

        rig.store.keep_copy = watched  # type: ignore[method-assign]
        new = (await rig.ask(set_trusted_key("change", key=KEY))).id
        await rig.until(lambda: len(sets) == 2)
        assert old is not None
        assert sets[0][old] == {"a", "b"}
        assert sets[1] == {new: {"a", "b"}}
