"""No output contains a secret of the system: the root key, trusted system keys, access keys, objects.

One scenario uses every function, and stores every output. It reads the secrets from the files that may have
them.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from hcall_abi.control import VERBS
from hcall_client.console import power_off, show_system
from tests.parts.life import CANARY, Life
from tests.parts.search import Search
from tests.parts.systems import System

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]

SECOND_KEY = os.urandom(32)
PASSPHRASE = "CANARY horse battery staple"
DEBUG = ("--log-level", "debug", "--log-calls", "--flush-delay", "1", "--log-format")

TOKENS = {"token of an expectation": os.urandom(32), "token of a migration": os.urandom(32)}
OTHER = "2" * 32
"""Another system, which does not exist."""
OTHER_UUID = "01234567-89ab-4def-8123-456789abcdef"
MOVES = (
    "showNeeds", "checkArrival", "expectPartition", "releasePartition", "takePartition", "tellCustody",
    "beginMigration",
)  # fmt: skip
"""Verbs of a migration."""

ELSEWHERE = ("watchEvents", "stopSystem", "beginRecovery", "endRecovery", "loadSnapshot")
"""Verbs without a call here: a stream without an end, and those that need another state of the system."""


class Scenario:
    """Two systems that the test uses.

    `outputs` has all their outputs, and `secrets` the bytes that no output may contain.
    """

    def __init__(self, folder: Path) -> None:
        self.outputs: dict[str, bytes] = {}
        self.secrets: dict[str, bytes] = {"another trusted system key": SECOND_KEY, **TOKENS}
        self.secrets["passphrase"] = PASSPHRASE.encode()
        self.asked: set[str] = set()
        self.life = Life(folder)
        self.empty = System(folder / "empty", wishes=())

    def play(self) -> None:
        self._use("json", self._verbs)
        self._use("console", self._commands)
        self._use_empty()
        self._starts_that_stop()
        self._erase()
        self._keep_files()

    def _use(self, style: str, use: Any) -> None:
        """Start the system with a debug log in this style, and call `use`, which changes access keys."""
        life, server = self.life, self.life.system.server
        with life.system.on([*DEBUG, style]):
            self.outputs[f"ready line, {style}"] = json.dumps(server.ready).encode()
            if not life.secrets:
                life.fill()
            self._know_keys(f"{style}, before")
            use()
            self._know_keys(f"{style}, after")
        self.outputs[f"log, {style}"] = server.log_path.read_bytes()
        server.log_path.unlink()

    def _know_keys(self, when: str) -> None:
        for path in (self.life.state / "access-keys").iterdir():
            self.secrets[f"access key {path.stem}, {when}"] = bytes.fromhex(path.read_text())
        self.secrets.update({name: self.life.secrets[name] for name in ("root key", "trusted system key")})
        self.secrets["object"] = CANARY

    def _verbs(self) -> None:
        """Send every verb of the control channel to a system with partitions."""
        copy = base64.b64encode(self.life.copy().read_bytes()).decode()
        uuid = next(
            each.uuid for each in self.life.system.ask(show_system()).partitions if each.name == "alpha"
        )
        attachment = {"id": "0" * 32, "name": "hmc"}
        bodies: dict[str, Any] = {
            "setSystem": {"name": "another name"},
            "attachConsole": attachment,
            "detachConsole": attachment,
            "changePartition": {"auto_start": True},
            "deletePartition": {"destroy": True},
            "keepCopy": {"uuid": uuid, "restores": 0, "generation": 0, "time": 0},
            "forgetCopies": {"uuids": [uuid]},
            "createPartition": {"name": "gamma", "keystore_kbytes": 4},
            "setAttributes": {"linux_dynamic_key_secure_boot": 1},
            "setFaults": {"faults": [{"hcall": "READ_OBJECT", "status": "H_BUSY"}]},
            "restoreCopy": {"copy": copy},
            "setTrustedKey": {"operation": "change", "key": base64.b64encode(SECOND_KEY).decode()},
            "setTrace": {"trace": "blanked"},
            "saveSnapshot": {"name": "base", "passphrase": PASSPHRASE},
            "showSnapshot": {"name": "base", "passphrase": PASSPHRASE},
            "diffSnapshot": {"name": "base", "passphrase": PASSPHRASE},
            "removeSnapshot": {"name": "base"},
            "setNvramFault": {"trouble": "none"},
        }
        first = ["powerOff", "setAttributes", "restoreCopy", "powerOn", "attachConsole", "keepCopy"]
        last = ["forgetCopies", "detachConsole", "deletePartition"]
        first += ["saveSnapshot"]
        rest = [verb.operation for verb in VERBS if verb.operation not in (*first, *last, *MOVES, *ELSEWHERE)]
        self._ask(self.life.system, [*first, *rest], bodies)
        self._moves()
        self._ask(self.life.system, last, bodies)
        self._get(self.life.system, "/openapi.json")

    def _moves(self) -> None:
        """Move gamma away and back. Then begin to move alpha to a target that does not exist."""
        system = self.life.system
        uuids = {each.name: each.uuid for each in system.ask(show_system()).partitions}
        expected, moving = (base64.b64encode(token).decode() for token in TOKENS.values())
        attempt = {"uuid": uuids["gamma"], "epoch": 1}
        self._ask(system, ["showNeeds"], {})
        arriving = {**self._answered("showNeeds"), "uuid": OTHER_UUID, "name": "delta"}
        expectation = {"uuid": OTHER_UUID, "epoch": 1, "source_id": OTHER, "token": expected}
        released = {**attempt, "target_id": OTHER}
        order = ["checkArrival", "expectPartition", "releasePartition"]
        self._ask(system, order, dict(zip(order, (arriving, expectation, released), strict=True)))
        copy = self._answered("releasePartition")["copy"]
        bodies = {
            "takePartition": {"copy": copy, "epoch": 2, "source_id": OTHER},
            "tellCustody": {**attempt, "word": "resume"},
            "beginMigration": {
                "uuid": uuids["alpha"],
                "epoch": 1,
                "target_id": OTHER,
                "address": f"unix:{self.life.operator / 'nobody'}",
                "token": moving,
            },
        }
        self._ask(system, list(bodies), bodies)

    def _answered(self, operation: str) -> Any:
        return json.loads(self.outputs[f"verb {operation}"].partition(b"\n\n")[2])

    def _use_empty(self) -> None:
        with self.empty.on([*DEBUG, "json"]):
            # A load is refused while its partitions run, and this system has none.
            snapshot = {"name": "base", "passphrase": PASSPHRASE}
            order = ["saveSnapshot", "loadSnapshot"]
            self._ask(self.empty, order, dict.fromkeys(order, snapshot))
            end = ["beginRecovery", "endRecovery", "stopSystem"]
            self._ask(self.empty, end, {"endRecovery": {"give_up": True}})
            # The server must end before the next signal, because that would change its exit status.
            assert self.empty.server.wait() == 0
        self.outputs["log, empty"] = self.empty.server.log_path.read_bytes()
        self.secrets["root key of another system"] = self.empty.root_key()

    def _ask(self, system: System, operations: list[str], bodies: Mapping[str, Any]) -> None:
        verbs = {verb.operation: verb for verb in VERBS}
        with client(system) as http:
            for operation in operations:
                verb = verbs[operation]
                name = "gamma" if operation in ("deletePartition", "releasePartition") else "alpha"
                path = verb.path.replace("{name}", name)
                answer = http.request(verb.method, path, json=bodies.get(operation))
                assert answer.status_code in verb.answers, (operation, answer.text)
                self.outputs[f"verb {operation}"] = raw(answer)
                self.asked.add(operation)

    def _get(self, system: System, path: str) -> None:
        with client(system) as http:
            answer = http.get(path)
            assert answer.status_code == 200
            self.outputs[path] = raw(answer)

    def _commands(self) -> None:
        """Run commands in forms for people and for programs; some of them are refused."""
        life = self.life
        assert life.system.read_object() == CANARY
        life.system.ask(power_off("alpha"))
        key, wrong = str(life.key), str(life.operator / "wrong")
        Path(wrong).write_bytes(SECOND_KEY + b"x")
        for words in (
            ["status"],
            ["status", "alpha", "--json"],
            ["components"],
            ["lstskey"],
            ["lstskey", "--json", "--sealed", str(life.operator / "again")],
            ["chtskey", "-o", "restore", "--newkey", key, "--oldkey", key],
            ["chtskey", "-o", "restore", "--newkey", key],
            ["chtskey", "-o", "return", "--sealed", key],
            ["chtskey", "-o", "change", "--newkey", wrong],
            ["restore", str(life.copy())],
            ["restore", key],
            ["rotate-key", "alpha"],
            ["recover"],
        ):
            self._run("hmc", *words)

    def _starts_that_stop(self) -> None:
        """Run two starts that are refused: for two different keys, and for a damaged card."""
        broken = self.life.system.copied(self.life.state.with_name("broken"))
        broken.take("anchor-card", self.empty)
        self.outputs["start: disagreement"] = broken.refused(*DEBUG, "json").stderr.encode()
        broken.damage_card()
        broken.remove("tpm")
        self.outputs["start: damaged card"] = broken.refused(*DEBUG, "console").stderr.encode()
        assert all(b"No copy was changed" in self.outputs[f"start: {name}"] for name in
                   ("disagreement", "damaged card"))  # fmt: skip

    def _erase(self) -> None:
        self._run("hmc", "replace", "tpm")
        self._run("asmi", "--state", str(self.life.state), "clear-all")
        self.outputs["clear-all"] = self.life.asmi("clear-all").encode()

    def _run(self, *words: str) -> None:
        done = self.life.system.server.run(*words)
        assert done.returncode in {0, 1, 2, 4}, done.stderr
        self.outputs[f"swpks {' '.join(words)}"] = done.stdout + done.stderr

    def _keep_files(self) -> None:
        """Add the files of the operator to the outputs, except those that contain a key itself."""
        for path in self.life.operator.iterdir():
            if path.name not in {"tsk", "wrong"}:
                self.outputs[f"file {path.name}"] = path.read_bytes()


def client(system: System) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(system.server.control_socket))
    return httpx.Client(transport=transport, base_url="http://swpks", timeout=20)


def raw(answer: httpx.Response) -> bytes:
    return b"\n".join(name + b": " + value for name, value in answer.headers.raw) + b"\n\n" + answer.content


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    scenario = Scenario(tmp_path_factory.mktemp("s"))
    scenario.play()
    return scenario


def test_no_output_holds_a_secret(played: Scenario) -> None:
    """R-42: no answer, metric, log, command, copy, sealed key or refusal contains a secret."""
    search = Search(played.secrets)
    assert {name: found for name, each in played.outputs.items() if (found := search.within(each))} == {}


def test_everything_was_asked(played: Scenario) -> None:
    """R-42: the scenario has used every verb of the control channel, and no output is missing or empty."""
    assert played.asked == {verb.operation for verb in VERBS} - {"watchEvents"}
    assert [name for name, each in played.outputs.items() if not each] == []
    assert len(played.secrets) >= 9
    assert len(set(played.secrets.values())) >= 7
    assert b'"level": "debug"' in played.outputs["log, json"]
    assert b"debug" in played.outputs["log, console"]
    assert b'"hcall": "WRITE_OBJECT"' in played.outputs["log, json"]
    assert b"hcall=READ_OBJECT" in played.outputs["log, console"]


def test_the_search_would_have_found_each_of_them(played: Scenario) -> None:
    """R-42: if a window of any secret is planted into any output, the search finds it."""
    for name, secret in played.secrets.items():
        search = Search({name: secret})
        for output in played.outputs.values():
            middle = len(output) // 2
            for window in (secret[11:19], secret[3:11].hex().encode(), base64.b64encode(secret)):
                assert search.within(output[:middle] + window + output[middle:]) == {name}


def test_the_copies_are_real(played: Scenario) -> None:
    """R-42, R-53: the searched files are the real copy of a store and the real sealed key."""
    assert played.outputs["file alpha.copy"][:4] == b"SPKB"
    assert played.outputs["file tsk.sealed"]
    answer = json.loads(played.outputs["verb showTrustedKey"].partition(b"\n\n")[2])
    assert set(answer) == {"id", "sealed"}
