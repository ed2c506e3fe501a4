"""Rules of the server process: its configuration and sockets, its starts and stops."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import socket
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

from hcall_abi.rules.catalogue import RULES
from hcall_abi.rules.rule import Rule
from hcall_client.calls import Confirmation, write_object
from hcall_client.console import set_nvram_fault
from hcall_client.guests.linux import LINUX_7_0
from hcall_client.request import Authorization
from hcall_server import failpoints
from hcall_server.data_channel import sockets
from hcall_server.data_channel.listeners import assign
from hcall_server.data_channel.sockets import listen_tcp, listen_unix, passed_sockets
from hcall_server.machine import logs
from hcall_server.service.settings import parse_partition
from hcall_server.service.state import State
from swpks.cli import lpar_update, lpar_verbs, streams
from swpks.cli.lpar_named import check_partition
from swpks.cli.main import main
from swpks.conformance.server.connection import ServerPlace
from swpks.conformance.server.plan import facts_of
from swpks.testing import ServerProcess
from swpks.testing.blocking import blocking_partition
from tests.data_channel.support import write
from tests.guest import make_partition
from tests.rules.breaking import Break, Breaks, breaks, refused
from tests.scarcity.places import gone

SPREAD = re.MULTILINE | re.DOTALL


def told(text: str) -> Rule:
    """Return the rule that a command's standard error names; check its id, sentence and page."""
    found = re.search(
        r"^swpks[^:]*: .* \[(\w+) fault; rule ([a-z.-]+): ([^\[]*); see (spec/[^\]]*)\]\Z",
        text.rstrip(),
        SPREAD,
    )
    assert found is not None, text
    rule = RULES[found[2]]
    assert (found[1], found[3], found[4]) == (rule.fault.value, rule.sentence, rule.page)
    return rule


def _used_partition(_: Path) -> Rule:
    """Break a rule: a partition that has an object is judged."""
    with blocking_partition() as partition:
        partition.channel.call(write_object(Authorization(3), b"a label", b"data"))
        place = ServerPlace("in this process", dial=partition.locate)
        return refused(facts_of, place)


def _no_data_channel(_: Path) -> Rule:
    """Break a rule: the judged server closes the connection at once."""
    ours, theirs = socket.socketpair()
    theirs.close()
    return refused(facts_of, ServerPlace("in this process", dial=lambda: ours))


def command(*arguments: object) -> Rule:
    """Run a command that must be refused; return the rule in its error."""
    given = list(map(str, arguments))
    with contextlib.redirect_stderr(io.StringIO()) as error, contextlib.redirect_stdout(io.StringIO()):
        assert main(given) in {1, 2, 3}
    logs.configure(level="warning")
    return told(error.getvalue())


def serve(*options: object) -> Break:
    """Return a function that breaks a rule: a server starts with these options.

    It allows a debugger, like the process of the tests.
    """
    return lambda folder: command("serve", "--debuggable", "--state", folder / "state", *options)


def passed(names: str = "", count: str = "1") -> Break:
    """Return a function that breaks a rule: LISTEN_FDS or LISTEN_FDNAMES, which pass sockets, is wrong."""
    environment = {"LISTEN_PID": "7", "LISTEN_FDS": count, "LISTEN_FDNAMES": names}
    return breaks(passed_sockets, environment, 7)


def adopted(folder: Path, *, of_a_socket: bool) -> Rule:
    """Break a rule: the passed descriptor is a file, or a socket that does not listen."""
    with (folder / "file").open("w") as file, socket.socket() as silent:
        number = silent.fileno() if of_a_socket else file.fileno()
        # A passed descriptor is inheritable.
        os.set_inheritable(number, True)
        with mock.patch.object(sockets, "FIRST_PASSED", number):
            return refused(passed_sockets, {"LISTEN_PID": "7", "LISTEN_FDS": "1"}, 7)


def configured(content: str) -> Break:
    """Return a function that breaks a rule: a server starts with this configuration file."""

    def broken(folder: Path) -> Rule:
        (folder / "swpks.toml").write_text(content)
        return command(
            "serve", "--debuggable", "--state", folder / "state", "--config", folder / "swpks.toml"
        )

    return broken


def _in_the_way(folder: Path) -> Rule:
    (folder / "a.sock").touch()
    return refused(listen_unix, folder / "a.sock")


def _named(name: str) -> Break:
    def broken(_: Path) -> Rule:
        with socket.socket() as listener:
            return refused(assign, [(name, listener)], [])

    return broken


def _null_gone(_: Path) -> Rule:
    """Break a rule: a command starts without standard input, and /dev/null does not exist."""
    kept = os.dup(0)
    os.close(0)
    try:
        with mock.patch.object(os, "devnull", "/dev/nowhere/null"):
            return refused(streams.prepare)
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def _output_full(_: Path) -> Rule:
    """Break a rule: a command can't write to its standard output."""
    with Path("/dev/full").open("w") as full, mock.patch.object(sys, "stdout", full):
        return refused(streams.say, "result")


def _at_no_point(folder: Path) -> Rule:
    with mock.patch.object(failpoints, "_WANTED", "released-of"):
        found = command("serve", "--state", folder / "state")
        assert command("hmc", "serve", "--store", folder / "store") is found
    assert not list(folder.iterdir())
    return found


def _late(folder: Path) -> Rule:
    state = State(folder)
    try:
        state.listeners.close_all()
        return refused(state.listeners.open, make_partition())
    finally:
        state.close()


def _unflushed(folder: Path) -> Rule:
    config = folder / "swpks.toml"
    config.write_text("[limits]\ndrain_seconds = 0.1\n")
    server = ServerProcess(folder / "state", ["a:8"], ["--config", str(config)]).start()
    try:
        server.console.call(set_nvram_fault("stall"))
        with server.connect_blocking("a") as channel:
            channel.call(write(b"label"))
        assert server.stop() == 3
    finally:
        server.kill()
    return told(server.log)


def _without_a_folder(folder: Path) -> Rule:
    with gone(folder / "gone"):
        return command("serve", "--state", "state")


def _silent(folder: Path) -> Rule:
    """Break a rule: a socket accepts connections, but never answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "a.sock"))
        listener.listen()
        return command("lpar", "a", "config", "--timeout", "0.05", "--socket", folder / "a.sock")


def _empty_password(folder: Path) -> Rule:
    file = folder / "pw"
    file.touch()
    return command("bench", "--password-file", file)


def _no_auth_file(folder: Path) -> Rule:
    file = folder / "PK.auth"
    file.write_bytes(bytes(8))
    given = argparse.Namespace(any_name=True, auth=file, flags=None)
    return refused(lpar_update.update, mock.Mock(), given)


def _another_partition(folder: Path) -> Rule:
    folder = folder / "access-keys"
    folder.mkdir()
    (folder / "b.key").write_text("bb" * 32)
    args = argparse.Namespace(name="a", socket=None, state=None, access_key_file=folder / "b.key")
    return refused(check_partition, args, 2)


def _trace_over_a_file(folder: Path) -> Rule:
    file = folder / "kept.pcapng"
    file.touch()
    return command("serve", "--state", folder / "state", "--trace", file)


def _not_durable(_: Path) -> Rule:
    channel = mock.Mock()
    channel.call.return_value = Confirmation(flushed=False, present=True)
    with mock.patch.object(lpar_verbs, "LINUX_7_0", replace(LINUX_7_0, poll_limit=-1)):
        return refused(lpar_verbs.wait_flushed, channel, Authorization(3), b"label")


BREAKS: Breaks = {
    "config.file": configured("colour = 1"),
    "firmware.known": configured('firmware = "FW1"'),
    "total.range": configured("system_total_kbytes = 0"),
    "flush-delay.range": serve("--flush-delay", 60001),
    "confirm-wait.range": serve("--confirm-wait", 1001),
    "copy-interval.range": serve("--copy-interval", 0.001),
    "nvram.form": serve("--nvram", "sqlite:nvram"),
    "nvram.prefix": serve("--nvram", "etcd:127.0.0.1", "--nvram-prefix", "/a"),
    "nvram.tls": serve("--nvram", "etcd:https://127.0.0.1:1"),
    "nvram.lease": serve("--nvram-lease", 1),
    "standby.nvram": serve("--standby"),
    "metrics.loopback": serve("--metrics", "tcp:0.0.0.0:0"),
    "trace.limit": serve("--trace-limit", 0.001),
    "trace.file": _trace_over_a_file,
    "trace.secrets": serve("--trace-secrets"),
    "listen.form": serve("--listen", "udp:host:1"),
    "limit.range": configured("[limits]\nmax_sessions = 0"),
    "command.folder": _without_a_folder,
    "explain.known": lambda folder: command("explain", "no-such-rule"),
    "conformance.partition": _used_partition,
    "conformance.session": _no_data_channel,
    "command.usage": lambda _: command("lpar", "a", "read"),
    "command.file": lambda folder: command("bench", "--json", folder),
    "command.input": _empty_password,
    "command.auth-file": _no_auth_file,
    "command.socket": lambda folder: command("lpar", "a", "config", "--socket", folder),
    "command.partition": _another_partition,
    "command.answered": _silent,
    "conformance.client": lambda _: command("conformance", "client", "--exec", "true"),
    "command.durable": _not_durable,
    "partition.form": breaks(parse_partition, "a,keystore_kbytes=8"),
    "partition.twice": serve("--partition", "a:8", "--partition", "a:8"),
    "socket.path": breaks(listen_unix, Path("/", "d" * 107)),
    "socket.folder": lambda folder: refused(listen_unix, folder / "nowhere" / "a.sock"),
    "socket.place": _in_the_way,
    "socket.address": breaks(listen_tcp, "192.0.2.1", 1),
    "socket.count": passed(count="some"),
    "socket.names": passed(names="a:b"),
    "socket.passed": lambda folder: adopted(folder, of_a_socket=False),
    "socket.listens": lambda folder: adopted(folder, of_a_socket=True),
    "socket.control": _named("control"),
    "socket.owner": _named("nobody"),
    "ready.descriptor": serve("--ready-fd", 999),
    "fail-point.known": _at_no_point,
    "stream.closed": _null_gone,
    "stream.output": _output_full,
    "stop.sockets": _late,
    "stop.flushed": _unflushed,
}
