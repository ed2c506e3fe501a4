"""SET_PASSWORD and GEN_PASSWORD: a consumer's password for this IPL (R-04, R-05)."""

from __future__ import annotations

from typing import NamedTuple

from hcall_abi.consumers import Consumer
from hcall_abi.frames import Write
from hcall_abi.levels import FirmwareLevel
from hcall_server.hcalls.answers import DONE, SUCCESS, Outcome
from hcall_server.hcalls.memory import Place
from hcall_server.keystore.store import Keystore


class SetPassword(NamedTuple):
    """The arguments of SET_PASSWORD."""

    consumer: Consumer
    reserved: int
    password: bytes

    def __repr__(self) -> str:
        return f"SetPassword({self.consumer.name}, <{len(self.password)} bytes>)"


class GenPassword(NamedTuple):
    """The arguments of GEN_PASSWORD."""

    consumer: Consumer
    reserved: int
    password: Place


def set_password(keystore: Keystore, level: FirmwareLevel, args: SetPassword) -> Outcome:
    """Set the password that the guest has chosen."""
    keystore.access.passwords.set(args.consumer, args.password)
    return DONE


def gen_password(keystore: Keystore, level: FirmwareLevel, args: GenPassword) -> Outcome:
    """Set a random password, and write it to the guest."""
    address, length = args.password
    password = keystore.generate_password(args.consumer, length)
    return Outcome(SUCCESS, (), (Write(address, password),))
