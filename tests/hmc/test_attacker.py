"""An attacker who has all data of a console: its folder, its traffic in both directions, its log (R-44)."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hcall_client.calls import set_password
from hcall_server.components.anchor_card import AnchorCard
from hcall_server.console.profile_format import decode_profiles
from swpks.testing import ConsoleProcess
from tests.hmc.plant import Keeper, Plant
from tests.hmc.tap import Tap
from tests.parts.search import Search

# Other tests cover this code, so coverage is not measured here.
pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]

ENCODED = re.compile(rb"[A-Za-z0-9+/]{24,}={0,2}")


class Attacked:
    """A system and its console.

    Taps record both sockets of the console; `front` runs commands through one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keeper = Keeper(folder / "hmc")
        self.plant = Plant(folder / "sys1", self.keeper)
        self.plant.tap = folder / "system.sock"
        (folder / "front" / "run").mkdir(parents=True)
        self.front = ConsoleProcess(folder / "front")
        self.keeper.start()
        self.taps = {
            "system": Tap(self.plant.tap, self.plant.server.control_socket),
            "commands": Tap(self.front.socket, self.keeper.console.socket),
        }
        self.said = ""

    def run(self, *words: str) -> None:
        """Run a command through the tap, and record its output."""
        self.said += self.front.hmc(*words)

    def haul(self) -> dict[str, bytes]:
        """Return all bytes that the attacker has."""
        piles = {name: tap.noted for name, tap in self.taps.items()}
        piles |= {"log": self.keeper.console.log.encode(), "said": self.said.encode()}
        for path in [*self.keeper.console.store.rglob("*"), *self.folder.glob("*.profile*")]:
            if path.is_file():
                piles[path.name] = path.read_bytes()
        return piles

    def end(self) -> None:
        """Kill all processes."""
        for tap in self.taps.values():
            tap.close()
        self.plant.server.kill()
        self.keeper.end()


@pytest.fixture
def attacked(tmp_path: Path) -> Iterator[Attacked]:
    made = Attacked(tmp_path)
    yield made
    made.end()


def layers(content: bytes) -> Iterator[bytes]:
    """Yield some bytes, and then the decoded base64 texts in them, as deep as there are any."""
    yield content
    for found in set(ENCODED.findall(content)):
        with suppress(ValueError):
            yield from layers(base64.b64decode(found, validate=True))


def found_in(content: bytes, search: Search) -> set[str]:
    """Return the names of the secrets that are in some bytes or in their decoded base64 texts."""
    return search.within(b"\n".join(layers(content)))


def used(attacked: Attacked) -> dict[str, bytes]:
    """Use the system and every kind of command; return the secrets that were used."""
    plant, system = attacked.plant, attacked.plant.server
    plant.begin()
    key, password, canary = attacked.folder / "tsk", os.urandom(32), os.urandom(64)
    key.write_bytes(os.urandom(32))
    # The key goes directly to the system. No key may pass through the console.
    system.hmc("chtskey", "-o", "change", "--newkey", str(key))
    plant.write("alpha", canary)
    with plant.guest("beta") as guest:
        guest.call(set_password(1, password))
    attacked.run("backup")
    attacked.run("bkprofdata", "-m", "sys1", "-f", "monday")
    attacked.run("bkprofdata", "-m", "sys1", "-f", str(attacked.folder / "own.profiles"))
    xml = str(attacked.folder / "own.profiles.xml")
    attacked.run("mkprofdata", "-r", "sys", "-o", "createxml", "-m", "sys1", "-b", "monday", "-x", xml)
    attacked.run("lssyscfg", "-r", "lpar", "-m", "sys1", "-F")
    attacked.run("status", "-m", "sys1", "--json")
    plant.lose("service-processor")
    plant.recovered()
    assert plant.read("alpha") == canary
    plant.power_off()
    attacked.run("rstprofdata", "-m", "sys1", "-l", "1", "-f", "monday", "--forcekeystore")
    assert plant.read("alpha") == canary
    card = AnchorCard(system.state / "anchor-card").read()
    assert card is not None
    secrets = {"object": canary, "password": password, "trusted system key": key.read_bytes()}
    return secrets | {"root key": card.identity.root_key, "access key": system.access_key("alpha")}


def test_no_secret_is_in_anything_that_the_console_has(attacked: Attacked) -> None:
    """R-44: Files, traffic and log of a console contain no object, no password and no key."""
    secrets = used(attacked)
    piles, search = attacked.haul(), Search(secrets)
    assert {name: found for name in piles if (found := found_in(piles[name], search))} == {}
    sealed = decode_profiles(piles["own.profiles"]).keys[0].sealed
    opened = Search({"sealed key": sealed[-40:]})
    has_it = {name for name in piles if found_in(piles[name], opened)}
    # If a sealed key is found in these piles, the search decodes deep enough to find a secret.
    assert has_it >= {"system", "commands", "monday", "own.profiles"}
    # The store of the console holds the sealed copies.
    assert b"SPKB" in piles["console.sqlite"]
    assert has_it.isdisjoint({"log", "said", "own.profiles.xml"})
    for name, secret in secrets.items():
        assert found_in(piles["commands"] + base64.b64encode(b"x" + secret), search) == {name}
