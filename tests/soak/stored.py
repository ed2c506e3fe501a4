"""The contents of a state folder, as the server's own start finds them."""

from __future__ import annotations

from pathlib import Path

from hcall_abi.errors import SwpksError
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import Settings
from hcall_server.service.state import State
from tests.soak.history import Whole


def held(folder: Path) -> dict[str, Whole]:
    """Return the contents of each partition in a state folder."""
    return {name: whole for name, (whole, _) in stored(folder).items()}


def stored(folder: Path) -> dict[str, tuple[Whole, int]]:
    """Return the contents and the IPL count of each partition that the server's own start finds.

    If the start or a partition is refused, raise AssertionError.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        state = State(folder)
        seams = state.seams()
        try:
            system = assemble(seams, Settings()).system
        finally:
            seams.worker.close()
            seams.nvram.close()
            state.close()
    except SwpksError as error:
        raise AssertionError(f"the start is refused: {error}") from None
    found = {}
    for partition in system.partitions.values():
        assert not partition.refused, f"{partition.name} is refused: {partition.refused}"
        objects = partition.keystore.contents.snapshot().objects if partition.keystore else ()
        held = {(each.consumer, each.label): (each.policy, each.data) for each in objects}
        found[partition.name] = Whole(held, partition.attributes.secure_boot), partition.ipl_count
    return found
