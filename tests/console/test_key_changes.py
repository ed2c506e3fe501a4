"""Another trusted system key: all copies are made anew, and the new file alone brings the stores back."""

from __future__ import annotations

import pytest
import trio

from hcall_abi.requests import set_trusted_key, show_trusted_key
from tests.console.rig import Site, running
from tests.console.test_recovery import KEY, demand_recovered, filled, lost_whole


@pytest.mark.parametrize("operation", ["change", "restore"])
async def test_another_key_makes_all_copies_anew(operation, autojump_clock) -> None:
    """R-44, R-53: of stores that nobody writes to, too; the file of the new key alone brings them back."""
    async with running(Site()) as rig:
        await filled(rig)
        old = (await rig.ask(show_trusted_key())).id
        began = trio.current_time()
        new = (await rig.ask(set_trusted_key(operation, key=KEY))).id
        await rig.until(lambda: {each.trusted_key_id for each in rig.system.copies} == {new})
        assert trio.current_time() - began < 1  # the system asks at once, and not at its next look
        assert {each.name for each in rig.system.copies} == {"a", "b"}
        assert new is not None
        assert old != new
        assert rig.store.trusted_key(rig.system.key, new) is not None
        await lost_whole(rig)
        await rig.ask(set_trusted_key("restore", key=KEY))
        await rig.ended(rig.console.recover(rig.system))
        await demand_recovered(rig)


async def test_the_old_copies_stay_until_the_last_new_one_has_come(autojump_clock) -> None:
    """R-44: the console has a full set of copies under one of the keys at every moment."""
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
