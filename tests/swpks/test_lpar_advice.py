"""Refused h-calls of `swpks lpar`: each advised command is complete, and accepted exactly as printed."""

from __future__ import annotations

import argparse
import re
import shlex
import socket
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.frames import HReturn
from hcall_abi.statuses import Status
from hcall_client.request import refused
from swpks.cli.lpar_advice import advised
from tests.swpks.commands import parser, takes

VERBS: dict[str, tuple[Opcode, ...]] = {
    "ls": (Opcode.GET_OBJECTLABELS,),
    "read x": (Opcode.READ_OBJECT,),
    "rm x": (Opcode.REMOVE_OBJECT,),
    "write x": (Opcode.WRITE_OBJECT,),
    "confirm x": (Opcode.CONFIRM_OBJECT_FLUSHED,),
    "wrap k": (Opcode.WRAP_OBJECT,),
    "unwrap": (Opcode.UNWRAP_OBJECT,),
    "revoke k": (Opcode.REVOKE_OBJECT,),
    "update db": (Opcode.SIGNED_UPDATE, Opcode.CONFIRM_OBJECT_FLUSHED),
    "gen-key k": (Opcode.GEN_KEY,),
    "gen-password --out pw": (Opcode.GEN_PASSWORD,),
    "set-password --new-password-file pw": (Opcode.SET_PASSWORD,),
    "boot": (Opcode.SET_PASSWORD, Opcode.WRITE_OBJECT),
}
"""Verbs with their operands, and the h-calls that each makes."""
COMMAND = re.compile(r"`(swpks [^`]+)`")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """The state folder of a system whose control channel exists; its name has a blank."""
    folder = tmp_path / "my lab"
    (folder / "run").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(folder / "run" / "control.sock"))
        yield folder


def told(verb: str, opcode: int, status: int, *options: object) -> str:
    """Return the message of a verb whose h-call was refused."""
    return message(parsed(verb, *options), opcode, status)


def parsed(verb: str, *options: object) -> argparse.Namespace:
    """Return the parsed command line of a verb."""
    return parser().parse_args(["lpar", "lpar1", *map(str, options), *verb.split()])


def message(args: argparse.Namespace, opcode: int, status: int) -> str:
    """Return the message of a refused h-call of a command."""
    return advised(refused(opcode, HReturn(1, status, (0,) * 9, ())), args).message


@pytest.mark.parametrize("place", ["state", "socket", "tcp"])
def test_each_advised_command_is_complete(place: str, state: Path) -> None:
    """Each advised command names the system and the partition of the failed command.

    It has no placeholder that the user must replace.
    """
    places = {
        "state": ["--state", state],
        "socket": ["--state", "/other", "--socket", state / "run" / "lpar1.sock"],
        "tcp": ["--state", state, "--tcp", "localhost:1"],
    }
    found = set[str]()
    for verb, opcodes in VERBS.items():
        args = parsed(verb, *places[place])
        for opcode, status in product(opcodes, Status):
            found |= set(COMMAND.findall(message(args, opcode, status)))
    for each in found:
        words = shlex.split(each)
        assert takes(words), each
        assert not re.search(r"\b(NAME|DIR|LABEL|VERB)\b", each)
        assert words[1] == "serve" or "lpar1" in words
        assert "/other" not in words
        assert {str(state), str(state / "run" / "lpar1.sock"), "localhost:1"} & set(words), each
    assert {each.split()[1] for each in found} == {"hmc", "lpar", "serve"}


def test_a_socket_without_a_state(tmp_path: Path) -> None:
    """With --socket alone, the advice names a control channel in the folder of the socket.

    If there is none, the advice names no system.
    """
    update = ("update db", Opcode.SIGNED_UPDATE, Status.H_FUNCTION)
    assert "`swpks hmc set lpar1 key" in told(*update, "--socket", tmp_path / "run" / "a.sock")
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(tmp_path / "control.sock"))
        expected = f"`swpks hmc --socket {tmp_path}/control.sock set lpar1 keystore_signed_updates=1`"
        assert expected in told(*update, "--socket", tmp_path / "a.sock")


def test_the_name_of_a_socket_in_a_state(state: Path) -> None:
    """With --socket the command never uses NAME, so the advice names the partition of the socket."""
    found = told("update db", Opcode.SIGNED_UPDATE, Status.H_FUNCTION, "--socket", state / "run" / "b.sock")
    assert " set b keystore_signed_updates=1`" in found


@pytest.mark.parametrize("verb", ["read x", "rm x", "confirm x", "wrap k", "revoke k"])
def test_an_unknown_label_leads_to_ls(verb: str, state: Path) -> None:
    """For an unknown label, the message advises `ls`.

    The advised command has the connection, the consumer and the password of the refused command.
    """
    options = ("--state", state, "--consumer", "2", "--password-file", "my pw")
    found = told(verb, VERBS[verb][0], Status.H_NOT_FOUND, *options)
    ls = f"swpks lpar --state '{state}' lpar1 ls --consumer boot-loader --password-file 'my pw'"
    assert found.endswith(f"; `{ls}` lists the labels of this consumer")
    tcp = ("--tcp", "h:1", "--access-key-file", "k", "--partition", "3", "--consumer", "9")
    ls = "swpks lpar lpar1 ls --tcp h:1 --access-key-file k --partition 3 --consumer 9"
    assert f"`{ls}`" in message(stateless(verb, *tcp), VERBS[verb][0], Status.H_NOT_FOUND)


def stateless(verb: str, *options: object) -> argparse.Namespace:
    """Return the parsed command line of a verb without the state of the environment."""
    args = parsed(verb, *options)
    args.state = None
    return args


def test_a_keystore_that_is_off(state: Path) -> None:
    """If a call that every firmware level has is missing, the advice is to switch the keystore on."""
    hmc = f"swpks hmc --state '{state}'"
    off = f"if the keystore is off: `{hmc} power lpar1 off`, `{hmc} set lpar1 keystore_kbytes=64`, "
    assert off in told("ls", Opcode.GET_OBJECTLABELS, Status.H_FUNCTION, "--state", state)


WRONG = "the password in old.pw is not that of the consumer firmware in this IPL: name the right file by"
WITH_FILE = ("--consumer", "firmware", "--password-file", "old.pw")
MAKING = "; or this IPL has not the password or the secure-boot mode that --policy demands"
POLICIES = {
    "read x": "",
    "confirm x": "",
    "ls": "",
    "write x": "",
    "write x --policy pwset": MAKING,
    "rm x": "; or the policy of the object forbids it",
    "unwrap": "; or the policy of the object forbids it",
}


@pytest.mark.parametrize("verb", POLICIES)
def test_a_wrong_password_is_no_lost_one(verb: str, state: Path) -> None:
    """For a wrong password, the message names the file, the consumer and the remedies.

    It names the policy only if the policy may be the reason.
    """
    opcode = VERBS[verb.partition(" --")[0]][0]
    found = told(verb, opcode, Status.H_AUTHORITY, "--state", state, *WITH_FILE)
    policy = POLICIES[verb]
    assert f"H_AUTHORITY; {'perhaps ' if policy else ''}{WRONG} --password-file, or leave it out if" in found
    lost = f"; if the password is lost, `swpks hmc --state '{state}' ipl lpar1` unsets it"
    assert found.endswith(lost + policy)


def test_the_password_of_an_update(state: Path) -> None:
    """For a refused update, the message refers to the reason in the log.

    It also has advice for a wrong password, or for one that is missing.
    """
    update = ("update db", Opcode.SIGNED_UPDATE, Status.H_AUTHORITY, "--state", state)
    assert f"has the exact rule; if that is password.fits: {WRONG}" in told(*update, *WITH_FILE)
    assert "if that is password.fits: if its password is set: --password-file F; " in told(*update)
