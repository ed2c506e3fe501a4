"""Rules of h-calls, broken by guests. Each answer has the rule's status, or the status of its register."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.frames import HCall
from hcall_abi.rules.rule import Positional, Rule
from hcall_server.keystore.image import StoredObject
from tests.faults.test_busy import FaultyGuest
from tests.guest import FIRMWARE, SYSTEM, WRAPPING, Answer, Guest, Layout, auth_block, lay_out, make_partition
from tests.hcalls.damage import KEY_LABEL, KEY_OBJECT, LABEL, NO_PK, PASSWORD, PK_LABEL, good
from tests.rules.breaking import Break, Breaks
from tests.wrapping.second import LEAST_FLAGS, wrap

AUDIT, PWSET, WORLD, IMMUTABLE, SIGNED = 0x4000_0000, 0x1000_0000, 0x0800_0000, 0x0400_0000, 0x0100_0000


def check(guest: Guest, call: HCall, answer: Answer) -> Rule:
    """Return the rule of the last refusal.

    The answer must have the status of this rule. A rule about arguments has no status of its own: then the
    answer must have the status of the refused argument.
    """
    refusal = guest.refusals[-1]
    rule = refusal.rule
    assert answer.status == refusal.status
    if rule.answer is Positional.ARGUMENT:
        assert refusal.argument is not None
        assert refusal.status is CALLS[Opcode(call.opcode)].arg(refusal.argument).status
    else:
        assert refusal.status is rule.status
    return rule


def guest(level: str = "NEXT", **how) -> Guest:
    """Return a guest with its password set, an object and a wrapping key."""
    plain = StoredObject(SYSTEM, LABEL, 0, b"data")
    made = Guest(make_partition(level, objects=[plain, KEY_OBJECT], **how))
    assert made.set_password(SYSTEM, PASSWORD) == Answer(0)
    return made


def sent(layout: Layout, by: Callable[[], Guest] = guest) -> Break:
    """Return a function that breaks a rule: a guest makes this h-call."""

    def broken(_: Path) -> Rule:
        user, call = by(), layout.frame()
        return check(user, call, user.send(call))

    return broken


def call(opcode: Opcode, **values: int | bytes) -> Break:
    """Return a function that breaks a rule: an h-call of the operating system with these arguments."""
    auth = {"authorization": auth_block(SYSTEM, PASSWORD)}
    known = {arg.name for arg in CALLS[opcode].args}
    right = {name: value for name, value in auth.items() if name in known}
    return sent(lay_out(opcode, **{**right, **values}))


def damaged(opcode: Opcode, hurt: Callable[[Layout], object]) -> Break:
    """Return a function that breaks a rule: a right h-call, which `hurt` then damages."""
    layout = good(opcode)
    hurt(layout)
    return sent(layout)


def registers(opcode: Opcode, **values: int) -> Break:
    """Return a function that breaks a rule: a right h-call with other numbers in these registers."""
    return damaged(opcode, lambda layout: layout.registers.update(values))


def auth(block: bytes, address: int | None = None) -> Break:
    """Return a function that breaks a rule: a READ with this authorization block."""
    return damaged(Opcode.READ_OBJECT, lambda layout: layout.readable("authorization", block, address))


def user(by: Callable[[], Guest], opcode: Opcode, password: bytes = PASSWORD, **values: int | bytes) -> Break:
    """Return a function that breaks a rule: another guest makes a right h-call."""
    layout = good(opcode, password)
    for name, value in values.items():
        if isinstance(value, bytes):
            layout.readable(name, value)
        else:
            layout.registers[name] = value
    return sent(layout, by)


def holding(policy: int, label: bytes = LABEL, **how) -> Callable[[], Guest]:
    """Return a function that makes a guest with its password set and one object of this policy."""

    def make() -> Guest:
        made = Guest(make_partition("NEXT", objects=[StoredObject(SYSTEM, label, policy, bytes(32))], **how))
        assert made.set_password(SYSTEM, PASSWORD) == Answer(0)
        return made

    return make


def _without_password() -> Guest:
    return Guest(make_partition("NEXT", objects=[StoredObject(SYSTEM, LABEL, PWSET, b"data")]))


def _revoked() -> Guest:
    made = guest()
    assert made.revoke(SYSTEM, KEY_LABEL, password=PASSWORD).status == 0
    return made


def _provided(_: Path) -> Rule:
    made = Guest(
        make_partition("NEXT", attributes={"keystore_signed_updates": 1, "linux_dynamic_key_secure_boot": 1})
    )
    layout = lay_out(Opcode.REMOVE_OBJECT, authorization=auth_block(FIRMWARE), label=b"SB_VERSION")
    made.ipl()
    return check(made, layout.frame(), made.send(layout.frame()))


def _update_of_another_policy(_: Path) -> Rule:
    made = holding(SIGNED, PK_LABEL)()
    layout = good(Opcode.SIGNED_UPDATE)
    layout.registers["policy"] = SIGNED | WORLD
    return check(made, layout.frame(), made.send(layout.frame()))


WRAPPED = wrap(bytes(range(32)), b"secret")


def unwrapped(blob: bytes) -> Break:
    """Return a function that breaks a rule: an UNWRAP of these bytes."""
    return call(Opcode.UNWRAP_OBJECT, input=blob, output=max(0, len(blob) - 1024))


def spoilt(place: int) -> bytes:
    """Return a wrapped object with one changed bit."""
    return WRAPPED[:place] + bytes([WRAPPED[place] ^ 2]) + WRAPPED[place + 1 :]


BREAKS: Breaks = {
    "call.keystore": user(lambda: Guest(make_partition("NEXT", 0)), Opcode.GET_CONFIG),
    "call.switched": user(lambda: Guest(make_partition("NEXT", attributes={})), Opcode.SIGNED_UPDATE),
    "call.served": user(lambda: guest("FW950"), Opcode.WRAP_OBJECT),
    "call.power": user(lambda: Guest(make_partition("NEXT", running=False)), Opcode.GET_CONFIG),
    "argument.bits": registers(Opcode.WRITE_OBJECT, policy=1 << 32),
    "argument.zero": registers(Opcode.REVOKE_OBJECT, flags=1),
    "consumer.known": registers(Opcode.SET_PASSWORD, consumer=4),
    "authorization.readable": registers(Opcode.READ_OBJECT, authorization=0xDEAD_0000),
    "authorization.layout": auth(auth_block(SYSTEM, PASSWORD, version=2)),
    "authorization.password": auth(auth_block(SYSTEM, bytes(2000))),
    "buffer.readable": registers(Opcode.READ_OBJECT, label=0xDEAD_0000),
    "buffer.writable": registers(Opcode.READ_OBJECT, data=0xDEAD_0000),
    "buffer.place": auth(auth_block(SYSTEM, PASSWORD), 0x1FFC),
    "config.length": call(Opcode.GET_CONFIG, config=23),
    "password.length": call(Opcode.SET_PASSWORD, consumer=FIRMWARE, password=b""),
    "password.generated": call(Opcode.GEN_PASSWORD, consumer=FIRMWARE, password=31),
    "label.length": call(Opcode.REMOVE_OBJECT, label=b""),
    "object.length": call(Opcode.WRITE_OBJECT, label=b"new", data=b""),
    "list.token": call(Opcode.GET_OBJECTLABELS, token=1, labels=4096),
    "list.room": call(Opcode.GET_OBJECTLABELS, labels=1),
    "continue.token": registers(Opcode.WRAP_OBJECT, token=1),
    "key.length": call(Opcode.GEN_KEY, label=b"new", policy=WRAPPING, key_length=31),
    "key.address": call(Opcode.GEN_KEY, label=b"new", policy=WRAPPING, key=32),
    "wrap.bits": registers(Opcode.WRAP_OBJECT, flags=LEAST_FLAGS | 1 << 55),
    "wrap.algorithm": registers(Opcode.WRAP_OBJECT, flags=LEAST_FLAGS & ~0xFF),
    "wrap.pwset": registers(Opcode.WRAP_OBJECT, flags=1),
    "wrap.modes": registers(Opcode.WRAP_OBJECT, flags=LEAST_FLAGS | (0x6000_0000 << 32)),
    "wrap.length": call(Opcode.WRAP_OBJECT, label=KEY_LABEL, flags=LEAST_FLAGS, input=b"", output=1024),
    "wrap.room": call(Opcode.WRAP_OBJECT, label=KEY_LABEL, flags=LEAST_FLAGS, input=b"x", output=1024),
    "unwrap.length": unwrapped(WRAPPED[:1024]),
    "unwrap.room": call(Opcode.UNWRAP_OBJECT, input=WRAPPED, output=5),
    "update.length": call(Opcode.SIGNED_UPDATE, label=PK_LABEL, policy=SIGNED, data=b""),
    "update.policy": _update_of_another_policy,
    "policy.status-bits": call(Opcode.WRITE_OBJECT, label=b"new", policy=2, data=b"data"),
    "policy.supported": user(lambda: guest("FW950"), Opcode.WRITE_OBJECT, policy=WRAPPING),
    "policy.plain": call(Opcode.WRITE_OBJECT, label=b"new", policy=SIGNED, data=b"data"),
    "policy.key": call(Opcode.GEN_KEY, label=b"new", policy=SIGNED, key=48),
    "policy.signed": call(Opcode.SIGNED_UPDATE, label=PK_LABEL, policy=0, data=NO_PK),
    "policy.world-key": call(Opcode.GEN_KEY, label=b"new", policy=WRAPPING | WORLD, key_length=32),
    "password.once": call(Opcode.SET_PASSWORD, consumer=SYSTEM, password=PASSWORD),
    "password.fits": user(guest, Opcode.READ_OBJECT, b"another password"),
    "object.exists": call(Opcode.REMOVE_OBJECT, label=b"absent"),
    "object.new": call(Opcode.WRITE_OBJECT, label=LABEL, data=b"data"),
    "object.fits-buffer": call(Opcode.READ_OBJECT, label=LABEL, data=3),
    "space": user(holding(0, kbytes=4), Opcode.WRITE_OBJECT, data=bytes(4000)),
    "verdict.pwset": user(_without_password, Opcode.READ_OBJECT, b""),
    "verdict.secure-boot": user(holding(AUDIT), Opcode.READ_OBJECT),
    "verdict.wrapping-key": call(Opcode.READ_OBJECT, label=KEY_LABEL, data=32),
    "verdict.revoked": user(_revoked, Opcode.WRAP_OBJECT),
    "verdict.immutable": user(holding(IMMUTABLE), Opcode.REMOVE_OBJECT),
    "verdict.provided": _provided,
    "verdict.revocable": call(Opcode.REVOKE_OBJECT, label=LABEL),
    "call.busy": user(lambda: FaultyGuest("GET_CONFIG=H_BUSY"), Opcode.GET_CONFIG),
    "wrap.key": call(Opcode.WRAP_OBJECT, label=LABEL, flags=LEAST_FLAGS, input=b"x", output=1025),
    "unwrap.key": unwrapped(wrap(bytes(32), b"secret")),
    "wrapped.format": unwrapped(spoilt(0)),
    "wrapped.intact": unwrapped(spoilt(1010)),
}
