"""The output of a server process: the ready line, refusals with their rules, and never a secret."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hcall_client.blocking import BlockingChannel
from hcall_client.calls import (
    Request,
    set_password,
    write_object,
)
from hcall_client.errors import HcallError, OpenRefused, SessionEnded
from hcall_client.request import Authorization
from hcall_server.components.anchor_card import AnchorCard
from swpks.testing import ServerProcess
from tests.data_channel.support import read, write
from tests.service.processes import serve

pytestmark = pytest.mark.process


def write_with(who: Authorization, label: bytes) -> Request[None]:
    """Return a WRITE_OBJECT of a consumer that has a password."""
    return write_object(who, label, b"x")


def test_the_ready_line_says_where_everything_is(server: ServerProcess) -> None:
    """The server prints one line of JSON for programs, and one line for people."""
    ready = server.start().ready
    assert ready["sockets"] == {name: str(server.socket(name)) for name in ("alpha", "beta")}
    assert ready["control"] == str(server.control_socket)
    assert (ready["pid"], ready["firmware"]) == (server.pid, "FW1110")
    assert (ready["partitions"], ready["running"], ready["refused"]) == (
        ["alpha", "beta"],
        ["alpha", "beta"],
        {},
    )
    assert server.stop() == 0
    lines = [line for line in server.log.splitlines() if " is ready: " in line]
    assert len(lines) == 1
    assert f"alpha at {server.socket('alpha')}" in lines[0]


@pytest.mark.parametrize(
    "options,rule",
    [
        (("--partition", "a:b"), "attribute.range"),
        (("--partition", "control:4"), "name.form"),
        (("--listen", "udp:1:2"), "listen.form"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, options: tuple[str, str], rule: str) -> None:
    """A wrong option ends the process with status 2, the rule, and no traceback."""
    done = serve("--state", str(tmp_path / "state"), *options)
    assert done.returncode == 2
    assert f"operator fault; rule {rule}: " in done.stderr
    assert "Traceback" not in done.stderr


def test_no_secret_is_ever_written_down(server: ServerProcess) -> None:
    """R-42: Log, arguments and errors contain no root key, password, object, access key or proof."""
    password, canary = b"canary-password-7391", b"canary-object-5527"
    server.options = ["--log-level", "debug", "--listen", "tcp:127.0.0.1:0"]
    server.start()
    key = server.access_key("alpha")
    card = AnchorCard(server.state / "anchor-card").read()
    assert card
    with pytest.raises(OpenRefused):
        BlockingChannel.connect(
            ("127.0.0.1", server.ready["tcp_port"]), partition=1, access_key=bytes(32), timeout=20
        )
    with server.connect_blocking("alpha") as channel:
        known = channel.call(set_password(3, password))
        channel.call(write_with(known._replace(password=password), canary))
        for request in (
            write(canary),
            read(canary),
            set_password(3, password + b"!"),
            set_password(9, password),
        ):
            with pytest.raises(HcallError) as caught:
                channel.call(request)
            assert "canary" not in repr(caught.value)
        channel._socket.send(b"HCAL\x01\x04" + canary + password)
        with pytest.raises(SessionEnded):
            channel.call(read(canary))
    arguments = Path(f"/proc/{server.pid}/cmdline").read_bytes()
    assert server.stop() == 0
    log = server.log
    assert "hcall.refused" in log
    assert "protocol.error" in log
    for secret in (b"canary", password, key, card.identity.root_key):
        assert secret not in log.encode() + arguments
        assert secret.hex().encode() not in log.encode() + arguments


def test_every_refusal_names_its_rule(server: ServerProcess) -> None:
    """The log line of each refusal has the broken rule and the section of the page."""
    server.start()
    with server.connect_blocking("alpha") as channel:
        for request in (read(b"nothing"), set_password(9, b"password")):
            with pytest.raises(HcallError):
                channel.call(request)
    server.stop()
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    refused = [line for line in lines if line["event"] == "hcall.refused"]
    assert [(line["hcall"], line["status"]) for line in refused] == [
        ("READ_OBJECT", "H_NOT_FOUND"),
        ("SET_PASSWORD", "H_PARAMETER"),
    ]
    assert ["argument" in line for line in refused] == [True, True]
    for line in refused:
        assert line["partition"] == "alpha"
        assert line["fault"] == "guest"
        assert line["rule"]
        assert line["section"].startswith("spec/")


def test_a_log_that_is_closed_does_not_stop_the_server(server: ServerProcess) -> None:
    """The server goes on after the reader of its log has gone."""
    reader, writer = os.pipe()
    ready_reader, ready_writer = os.pipe()
    command = [sys.executable, "-m", "swpks", "serve", "--state", str(server.state), "--partition", "alpha:4"]
    command += ["--ready-fd", str(ready_writer)]
    process = subprocess.Popen(command, stderr=writer, stdout=subprocess.DEVNULL, pass_fds=[ready_writer])
    os.close(writer)
    os.close(ready_writer)
    try:
        with os.fdopen(ready_reader) as ready:
            assert json.loads(ready.readline())["pid"] == process.pid
        os.close(reader)
        with server.connect_blocking("alpha") as channel:
            for _ in range(3):
                with pytest.raises(HcallError):
                    channel.call(read(b"nothing"))
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
