"""Adds an attribute only to `hcall_abi/console.py` and reports where it appears: one line of JSON.

The script runs in its own process.  It adds one field to the source of the module and imports the module.
Then it checks every place that is derived from the rows.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "spec"), str(ROOT / "tools")]

NAME = "one_more_switch"
FIELD = f"""
    {NAME}: Annotated[
        int,
        AttributeRow("what a test has added", SWITCH, 16, needs="keystore_signed_updates", of_updates=True),
    ]
"""
BEFORE = "    secure_boot: Annotated["


def add_field() -> None:
    """Import `hcall_abi.console` from its source with one more field."""
    spec = importlib.util.find_spec("hcall_abi.console")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text("utf-8")
    assert source.count(BEFORE) == 1
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    exec(compile(source.replace(BEFORE, FIELD + BEFORE), spec.origin, "exec"), vars(module))


add_field()

import httpx  # noqa: E402
import trio  # noqa: E402

from hcall_abi.errors import OperatorError  # noqa: E402
from hcall_client import console  # noqa: E402
from hcall_client.console import Console  # noqa: E402
from hcall_server.components.memory import MemoryCard  # noqa: E402
from hcall_server.control_channel import openapi  # noqa: E402
from hcall_server.control_channel.app import make_app  # noqa: E402
from hcall_server.machine.machine import Machine  # noqa: E402
from hcall_server.nvram.memory import MemoryNvram  # noqa: E402
from hcall_server.nvram.seam import Nvram  # noqa: E402
from hcall_server.sealing import PartitionRecord, encode_partition  # noqa: E402
from hcall_server.service.assembly import assemble  # noqa: E402
from hcall_server.service.config import read_config  # noqa: E402
from hcall_server.service.settings import PartitionSettings, Settings, parse_partition  # noqa: E402
from swpks.cli import hmc, hmc_output  # noqa: E402
from swpks.cli.hmc_ask import Ask  # noqa: E402
from swpks.testing.seams import simulated_seams  # noqa: E402
from tests.guest import Chance  # noqa: E402

FILE = f'[[partition]]\nname = "a"\nkeystore_kbytes = 8\nkeystore_signed_updates = 1\n{NAME} = 1\n'
ROW = f"| `{NAME}` | 0, 1 | 0 | `keystore_signed_updates` | FW1030 | bit 16 | what a test has added |"
ON = PartitionSettings.of("a", 8, keystore_signed_updates=1, one_more_switch=1)


def from_file() -> tuple[PartitionSettings, ...]:
    """Return the settings of a file with the attribute."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "swpks.toml")
        path.write_text(FILE, "utf-8")
        return read_config(path).partition


def machine(nvram: Nvram, card: MemoryCard, *wishes: PartitionSettings) -> Machine:
    """A machine over this NVRAM and this card."""
    seams = simulated_seams(entropy=Chance(), nvram=nvram, card=card)
    return assemble(seams, Settings(partition=wishes))


def number(found: Machine) -> int:
    """Return the attribute of the partition."""
    return found.system.find("a").attributes.numbers[NAME]


def typed(*words: str) -> Ask:
    """Return the request that a command line of `swpks hmc` sends."""
    parser = argparse.ArgumentParser()
    hmc.add_parser(parser.add_subparsers())
    return hmc.ask_of(parser.parse_args(["hmc", *words]))


async def places() -> Mapping[str, bool]:
    """Return the name of each place, and whether the attribute appears and works in it."""
    nvram, card = MemoryNvram(), MemoryCard(None)
    first = machine(nvram, card, ON)
    found = {
        "option": parse_partition(f"a:8,keystore_signed_updates=1,{NAME}=1") == ON,
        "file": from_file() == (ON,),
        "start": number(first) == 1,
        "bit": encode_partition(PartitionRecord(first.system.find("a").profile, None))[2:4] == b"\0\x11",
    }
    await first.encryptor.flush()
    found["restart"] = number(machine(nvram, card)) == 1
    system = Console(httpx.ASGITransport(make_app(first)))
    view = await system.call(console.show_partition("a"))
    found["view"] = getattr(view, NAME) == 1
    found["output"] = f"{NAME}=1" in hmc_output.partition(view).splitlines()
    request = typed("set", "a", f"{NAME}=0").request
    found["command"] = getattr(await system.call(request), NAME) == 0
    found["body"] = number(first) == 0
    found["range"] = await out_of_range(system)
    found["needs"] = refused_alone(machine(MemoryNvram(), MemoryCard(None), PartitionSettings.of("a", 8)))
    schemas = openapi.description()["components"]["schemas"]
    described = [schemas[struct]["properties"][NAME] for struct in ("AttributeChanges", "PartitionView")]
    found["description"] = [each["description"] for each in described] == 2 * ["what a test has added"]
    page = importlib.import_module("spec_tables").TABLES["attributes"]()
    found["page"] = ROW in page
    return found


def refused_alone(found: Machine) -> bool:
    """Return whether the attribute is refused without the attribute that it needs."""
    try:
        found.system.set_attributes("a", {NAME: 1})
    except OperatorError as error:
        return error.rule.id == "attribute.needs" and NAME in error.message
    return False


async def out_of_range(system: Console) -> bool:
    """Return whether a number outside a switch's range is a malformed request."""
    async with httpx.AsyncClient(transport=system.target, base_url="http://swpks") as client:  # type: ignore[arg-type]
        answer = await client.patch("/v1/partitions/a/attributes", json={NAME: 2})
    return answer.status_code == httpx.codes.BAD_REQUEST and NAME in answer.text


if __name__ == "__main__":
    print(json.dumps(trio.run(places)))
