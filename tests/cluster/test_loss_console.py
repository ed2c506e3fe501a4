"""The verbs of the console at a server that has lost the ownership of its NVRAM."""

from __future__ import annotations

from typing import Any

import pytest

from hcall_abi.control import VERBS, Verb
from hcall_abi.errors import StorageError
from hcall_abi.rules import storage as rules
from hcall_server.control_channel.performing import Call, Performed, performed
from hcall_server.control_channel.verbs import PERFORMED
from hcall_server.machine.machine import Machine
from tests.cluster.test_loss import Granted
from tests.control_channel.rig import in_process, make_machine

ALLOWED = {
    *("showSystem", "showPartition", "showComponents", "showHealth", "showMetrics", "watchEvents"),
    *("listSnapshots", "showSnapshot", "stopSystem"),
}
"""The verbs that only show, and the stop."""


@pytest.fixture
def owner() -> Granted:
    return Granted()


@pytest.fixture
def machine(owner: Granted) -> Machine:
    machine = make_machine()
    machine.nvram.inner.ownership = owner  # type: ignore[misc]
    return machine


@pytest.mark.parametrize("verb", VERBS, ids=lambda each: each.operation)
async def test_each_verb_is_refused_or_only_shows(machine: Machine, owner: Granted, verb: Verb) -> None:
    """R-85: a former owner performs no verb but those that show, and the stop."""
    done: list[str] = []

    def perform(call: Call) -> Any:
        done.append(verb.operation)
        return "answered"

    row = PERFORMED[verb.operation]._replace(perform=perform)
    owner.over = True
    if verb.operation in ALLOWED:
        await performed(row, Call(machine, "", None))
        assert done
    else:
        with pytest.raises(StorageError, match="not carried out") as refused:
            await performed(row, Call(machine, "", None))
        assert refused.value.rule is rules.NVRAM_OWNER
        assert not done


async def test_the_console_gets_the_reason(machine: Machine, owner: Granted) -> None:
    """R-85: changes of memory alone, and copies, are refused with 503 and nvram.owner; views are answered."""
    async with in_process(machine) as client:
        assert (await client.post("/v1/partitions", json={"name": "a", "keystore_kbytes": 8})).is_success
        owner.over = True
        for call in (
            client.post("/v1/partitions", json={"name": "b"}),
            client.patch("/v1/partitions/a/attributes", json={"secure_boot": 2}),
            client.post("/v1/partitions/a/power-on"),
            client.get("/v1/partitions/a/copy"),
            client.get("/v1/trusted-key"),
        ):
            answer = await call
            assert (answer.status_code, answer.json()["rule_id"]) == (503, "nvram.owner")
            assert "retried" not in answer.text
        (only,) = (await client.get("/v1/system")).json()["partitions"]
        assert (only["name"], only["secure_boot"], only["power"]) == ("a", "off", "off")
        assert (await client.post("/v1/system/power-off")).is_success
    assert machine.stop_asked.is_set()


@pytest.mark.parametrize("failure", [None, rules.NVRAM_REACHED])
async def test_a_loss_during_a_verb(machine: Machine, owner: Granted, failure: Any) -> None:
    """R-85: a verb under way at the loss is not acknowledged, and no error promises a retry."""

    async def perform(call: Call) -> Any:
        owner.over = True
        if failure:
            raise StorageError(failure, "it is retried, so wait")
        return "answered"

    with pytest.raises(StorageError, match="the new owner shows whether it has taken effect") as refused:
        await performed(Performed(perform), Call(machine, "a", None))
    assert refused.value.rule is rules.NVRAM_OWNER
