"""Steps with replaced parts: the system writes the root key to a new card, and wraps it for a new TPM."""

from __future__ import annotations

from hcall_abi.control_views import ComponentsView
from hcall_client.console import show_components
from swpks.demo.disk import digest
from swpks.demo.first_ipl import DISK_KEY, boot_chain
from swpks.demo.play import PARTITION, Play

CARD, TPM = "anchor-card", "tpm"
"""The parts for the root key: the card stores the key, and the TPM unwraps a copy of it."""
_START_STEPS = [1, 2, 3, 4, 5, 6, 7]
"""The steps of the access procedure that belong to a start."""


async def replace_card(play: Play) -> None:
    """Replace the anchor card; the next start writes the root key to it from the wrapped copy."""
    shows = "The card holds the root key in clear. The service processor has a copy, wrapped by the TPM."
    with play.stage.step("The anchor card is pulled, and a new one is put in", shows):
        card = play.server.state / CARD / CARD
        old = card.read_bytes()
        await play.power_off()
        play.console("replace", CARD)
        play.stage.check("the new card is empty", not card.exists())
        _start(play, CARD, "card-replaced")
        play.stage.check("the new card holds the same root key as the old one", card.read_bytes() == old)
        await secret_is_there(play)


async def replace_tpm(play: Play) -> None:
    """Replace the TPM; the next start wraps the card's root key for the new TPM."""
    shows = "A new TPM can't unwrap the copy in NVRAM. The card still holds the root key."
    with play.stage.step("The TPM is pulled, and a new one is put in", shows):
        seed = play.server.state / TPM / "seed"
        old = seed.read_bytes()
        await play.power_off()
        play.console("replace", TPM)
        _start(play, TPM, "tpm-replaced")
        play.stage.check("the new TPM has a secret of its own", seed.read_bytes() != old)
        await secret_is_there(play)


async def secret_is_there(play: Play) -> None:
    """Boot the partition, and read its disk key; both results are checks."""
    channel = await play.connect()
    await boot_chain(play)
    play.stage.check(f"{PARTITION} boots, IPL {channel.ipl_count}: all stages lock again", play.locked)
    read = await play.chain.kernel.read(DISK_KEY)
    play.stage.check(
        f"the guest's locked secret is there, SHA-256 {digest(read.data)}...", read.data == play.disk_key
    )


def _start(play: Play, part: str, decision: str) -> None:
    """Start the system with a new part, and check that the part has got its copy of the root key."""
    play.server.start()
    view = play.server.console.call(show_components())
    for each in view.steps:
        play.stage.say(f"step {each.step}: {each.finding}")
    numbers = sorted({each.step for each in view.steps})
    play.stage.check("steps 1 to 7 of the access procedure are listed", numbers == _START_STEPS)
    play.stage.check(f"the decision: {view.decision}", view.decision == decision)
    play.stage.check(f"{part}: {_copy_of(view, part)}", _copy_of(view, part) == "restored")


def _copy_of(view: ComponentsView, part: str) -> str:
    """Return the state of a part's copy of the root key."""
    return next((each.copy for each in view.components if each.name == part), "unknown part")
