"""`swpks hmc` against a real server process, and its output."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from hcall_abi.control_views import CustodyView, HealthView, PartitionView, SystemView, WritebackView
from hcall_abi.statuses import Status
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import get_config, write_object
from hcall_client.errors import HcallError
from hcall_client.request import Authorization
from swpks.cli import hmc_output
from tests.console.facts import partition, system

OS = Authorization(3)
SWPKS = [sys.executable, "-m", "swpks"]
Hmc = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """The state folder of a running server with the partition lpar1."""
    folder = tmp_path / "state"
    reading, writing = os.pipe()
    command = [*SWPKS, "serve", "--state", str(folder), "--firmware", "FW950", "--partition", "lpar1:8"]
    command += ["--ready-fd", str(writing), "--log-level", "error"]
    with subprocess.Popen(command, pass_fds=[writing], stdout=subprocess.DEVNULL) as server:
        os.close(writing)
        with os.fdopen(reading) as ready:
            assert json.loads(ready.readline())["running"] == ["lpar1"]
        yield folder
        server.terminate()
        assert server.wait(30) == 0


@pytest.fixture
def hmc(state: Path) -> Hmc:
    """Return a function that runs the command; the command gets the state folder from the environment."""

    def run(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"SWPKS_STATE": str(state)}
        done = subprocess.run(
            [*SWPKS, "hmc", *words], capture_output=True, text=True, check=False, env=environment, timeout=60
        )
        assert done.returncode == status, done.stderr
        assert (done.stderr == "") == (status == 0 or done.stdout != "")
        return done

    return run


@pytest.mark.process
def test_a_day_at_the_console(hmc, state) -> None:
    """R-30 to R-33, R-35: every verb of the command against a real server, with its effects on a guest."""
    assert "lpar1      1   running  1" in hmc("status").stdout
    assert hmc("health").stdout.startswith("healthy\n")
    with BlockingChannel.connect(state / "run" / "lpar1.sock") as channel:
        channel.call(write_object(OS, b"key", b"data"))
        refused = hmc("keystore", "lpar1", "0", status=1)
        assert "HSCL0DC8" in refused.stderr
        assert "; see spec/control.md#sizes]" in refused.stderr
    shown = json.loads(hmc("--json", "secure-boot", "lpar1", "enforce").stdout)
    assert (shown["secure_boot"], shown["curr_secure_boot"]) == ("enforce", "off")
    assert "enforce" in hmc("ipl", "lpar1").stdout
    assert "off" in hmc("create", "lpar2", "--no-auto-start").stdout
    hmc("power", "lpar2", "on")
    with BlockingChannel.connect(state / "run" / "lpar2.sock") as channel, pytest.raises(HcallError) as off:
        channel.call(get_config())
    assert off.value.status == Status.H_FUNCTION
    hmc("power", "lpar2", "off")
    assert not (state / "run" / "lpar2.sock").exists()
    assert "64 KiB" in hmc("keystore", "lpar2", "64").stdout
    problem = json.loads(hmc("keystore", "lpar2", "32", "--json", status=1).stderr)
    assert problem["rule"] == "a keystore never shrinks, except to 0"
    sample = 'swpks_hcalls_total{hcall="WRITE_OBJECT",partition="lpar1",status="H_SUCCESS"} 1.0'
    assert sample in hmc("metrics").stdout
    refused = hmc("set", "lpar2", "keystore_signed_updates=1", status=1)
    assert "keystore_signed_updates needs SIGNED_UPDATE, which FW950 lacks" in refused.stderr
    assert (
        "off, audit at the next IPL" in hmc("set", "lpar2", "keystore_kbytes=64", "secure_boot=audit").stdout
    )
    assert "no partition 'nobody'" in hmc("status", "nobody", status=1).stderr
    assert json.loads(hmc("status", "lpar2", "--json").stdout)["keystore_kbytes"] == 64


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command without a server."""
    env = {name: value for name, value in os.environ.items() if name != "SWPKS_STATE"} | environment
    return subprocess.run(
        [*SWPKS, "hmc", *words], capture_output=True, text=True, check=False, env=env, timeout=60
    )


@pytest.mark.process
@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        [],
        ["power", "lpar1"],
        ["power", "lpar1", "cycle"],
        ["reboot", "lpar1"],
        ["set", "lpar1"],
        ["nvram", "stall", "3", "--socket", "nobody"],
        ["nvram", "none", "1", "--socket", "nobody"],
        ["status", "\udcff", "--socket", "nobody"],
        ["create", "..", "--socket", "nobody"],
        ["status", "", "--socket", "nobody"],
        ["status", "--socket", "nobody", "--timeout", "-1"],
        ["status", "--socket", "nobody", "--timeout", "nan"],
        ["status", "--socket", "nobody", "--timeout", "1e30"],
    ],
)
def test_usage(words) -> None:
    """An invalid command line gives exit status 2 and a message."""
    done = run(*words)
    assert done.returncode == 2
    assert done.stderr


@pytest.mark.process
@pytest.mark.parametrize(
    "words,rule,says",
    [
        (
            "set lpar1 foo=1",
            "attribute.known",
            "the attributes are keystore_kbytes, keystore_signed_updates, ",
        ),
        ("set lpar1 =1", "attribute.known", "no attribute ''"),
        ("set lpar1 keystore_kbytes", "attribute.form", "'keystore_kbytes' has no value"),
        ("set lpar1 secure_boot=1 secure_boot=2", "attribute.form", "secure_boot is given twice"),
        (
            "set lpar1 secure_boot=1 keystore_kbytes=8 secure_boot=audit",
            "attribute.form",
            "secure_boot is given twice",
        ),
        (
            "set lpar1 secure_boot=3",
            "attribute.range",
            "secure_boot is 0 to 2, or off, audit, enforce, not '3'",
        ),
        ("set lpar1 secure_boot=on", "attribute.range", "off, audit, enforce, not 'on'"),
        (
            "set lpar1 keystore_signed_updates=2",
            "attribute.range",
            "keystore_signed_updates is 0 to 1, not '2'",
        ),
        (
            "set lpar1 keystore_kbytes=65536",
            "attribute.range",
            "keystore_kbytes is 0, or 4 to 64 or 128 as the firmware level allows, not '65536'",
        ),
        ("secure-boot lpar1 on", "attribute.range", "off, audit, enforce, not 'on'"),
        (
            "secure-boot enforce lpar1",
            "attribute.range",
            "first: `swpks hmc --socket nobody secure-boot lpar1 enforce`",
        ),
        ("keystore 64 lpar1", "attribute.range", "first: `swpks hmc --socket nobody keystore lpar1 64`"),
        (
            "keystore lpar1 -1",
            "attribute.range",
            "keystore_kbytes is 0, or 4 to 64 or 128 as the firmware level allows, not '-1'",
        ),
        (
            "keystore lpar1 4k",
            "attribute.range",
            "keystore_kbytes is 0, or 4 to 64 or 128 as the firmware level allows, not '4k'",
        ),
        (
            "create lpar1 x",
            "attribute.range",
            "keystore_kbytes is 0, or 4 to 64 or 128 as the firmware level allows, not 'x'",
        ),
        ("faults lpar1 bad", "fault.form", "'bad' is no fault"),
        ("nvram full 0", "trouble.count", "'0' is no number of commits"),
        ("nvram io -1", "trouble.count", "'-1' is no number of commits"),
    ],
    ids=lambda value: value if " " in value else "",
)
def test_operands_that_make_no_sense(words: str, rule: str, says: str) -> None:
    """R-36: Wrong operands are refused before a request is sent.

    The error has the rule and the allowed values.
    """
    done = run(*words.split(), "--socket", "nobody")
    assert done.returncode == 2
    assert says in done.stderr
    assert f"operator fault; rule {rule}: " in done.stderr


@pytest.mark.process
def test_nobody_there(tmp_path) -> None:
    """If no server listens, the exit status is 3, and the error names the socket."""
    done = run("status", "--state", str(tmp_path))
    assert done.returncode == 3
    assert str(tmp_path / "run" / "control.sock") in done.stderr


@pytest.mark.process
def test_somebody_else_there(tmp_path) -> None:
    """If another program listens on the socket, the exit status is 3, and there is no traceback."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        command = [*SWPKS, "hmc", "--socket", str(path), "status"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as asking:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            _, error = asking.communicate(timeout=60)
    assert asking.returncode == 3
    assert "spec/control.md" in error
    assert "Traceback" not in error


def test_refused_partitions_and_reasons_are_shown() -> None:
    """`status` begins with the refused partitions and the reasons of bad health."""
    row = {
        "number": 1,
        "name": "lpar1",
        "uuid": "1b4e28ba-2fa1-41d2-883f-0016d3cca427",
        "power": "off",
        "ipl_count": 0,
        "restores": 0,
        "generation": 0,
        "auto_start": True,
        "secure_boot": "audit",
        "simplified_remote_restart_capable": 1,
        "curr_secure_boot": "off",
        "keystore_kbytes": 8,
        "keystore_signed_updates": 1,
        "keystore_signed_updates_without_verification": 0,
        "linux_dynamic_key_secure_boot": 0,
        "keystore": None,
        "copy": None,
        "faults": [],
        "refused": {
            "detail": "its image is damaged",
            "rule_id": "image.whole",
            "rule": "it is whole",
            "section": "spec/sealed.md",
        },
    }
    system = {
        "name": "sys",
        "type_model_serial": "9105-22A*0000000",
        "state": "Operating",
        "console": None,
        "restored": [],
        "lost": [],
        "system_id": "00",
        "firmware_level": "FW950",
        "total_kbytes": 1024,
        "assigned_kbytes": 8,
        "partitions": [row],
    }
    shown = hmc_output.system(msgspec.convert(system, SystemView))
    assert "lpar1 is REFUSED: its image is damaged" in shown
    assert "off, audit at the next IPL" in shown
    assert "rule: it is whole (image.whole)" in hmc_output.partition(msgspec.convert(row, PartitionView))
    assert "\nkeystore_signed_updates=1\n" in hmc_output.partition(msgspec.convert(row, PartitionView))
    assert hmc_output.system(msgspec.convert(system | {"partitions": []}, SystemView)).endswith(
        "no partitions"
    )


def test_a_health_that_is_bad() -> None:
    """`health` prints each reason on its own line."""
    writeback = WritebackView(
        state="stalled",
        pending=3,
        commits=1,
        failures=2,
        oldest_pending_seconds=1.0,
        last_error="disk full",
        fault=None,
    )
    health = HealthView(
        ok=False,
        reasons=["NVRAM (stalled): disk full"],
        version="0",
        firmware_level="FW950",
        partitions=1,
        running=0,
        console=None,
        writeback=writeback,
    )
    shown = hmc_output.health(health)
    assert shown.splitlines()[:2] == ["NOT healthy", "  NVRAM (stalled): disk full"]


def test_an_answer_does_not_steer_the_terminal() -> None:
    """Control characters in a view of any depth are escaped, and so is a newline within a value."""
    evil = partition("a", name="x\ny\x1b[2J")
    text = hmc_output.system(hmc_output.plain(system(evil, name="s\x9b", lost=["\r"])))
    assert [line for line in text.splitlines() if not line.isprintable()] == []
    assert r"x\ny\x1b[2J" in text
    assert "system s\\x9b," in text


def test_custody_that_is_not_plain_is_told() -> None:
    """R-51: `status` has a line for a partition that moves, has left, or waits for its console.

    A partition that is simply served has no such line.
    """
    moving = partition("a", custody="frozen", mode="in-doubt")
    facts = CustodyView(
        uuid=moving.uuid, name="a", custody="frozen", mode="in-doubt", epoch=7, generation=3, peer_id="5" * 32
    )
    left = msgspec.structs.replace(facts, name="b", custody="gone", mode="settled", peer_id="", trouble="why")
    here = msgspec.structs.replace(facts, name="c", custody="arrived", mode="serving")
    lines = hmc_output.system(system(moving, custody=[facts, left, here])).splitlines()[-2:]
    assert lines == [
        f"a is frozen, and waits for the console (attempt 7, other system {'5' * 32})",
        "b has left (attempt 7): why",
    ]
    assert hmc_output.system(system(custody=[left])).endswith("no partitions\nb has left (attempt 7): why")
    assert hmc_output.partition(moving).endswith("\na is frozen, and waits for the console")
    assert "arrived" not in hmc_output.partition(partition("c", custody="arrived"))
