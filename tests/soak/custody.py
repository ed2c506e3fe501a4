"""The large searches of `hcall_server.platform.custody`: three attempts, three systems, all plans of two."""

from __future__ import annotations

from collections.abc import Iterable

from tests.platform.custody_mistakes import every_way, fixed, there_and_back
from tests.platform.custody_search import well
from tests.platform.custody_world import World


def figures(scale: float) -> dict[str, int]:
    """Return the numbers of states that the searches visited.

    At a scale of 1 or more all large searches run, at a smaller scale only a small one.
    """
    if scale < 1:
        return _of("fixed", [fixed(2, 2)], eager=False)
    return {
        **_of("2 x 3", [fixed(2, 3)], eager=False),
        **_of("2 x 3 there and back", [there_and_back(2, 3)]),
        **_of("three systems", every_way(3)),
    }


def _of(name: str, worlds: Iterable[World], *, eager: bool = True) -> dict[str, int]:
    found = [well(world, eager=eager)[1] for world in worlds]
    return {
        f"{name}: plans": len(found),
        f"{name}: states": sum(each.states for each in found),
        f"{name}: transitions": sum(each.transitions for each in found),
    }
