"""Sessions of existing clients: op-test's DKGSB, and ansible's one-line form."""

from __future__ import annotations

import shlex
import subprocess

from hcall_server.console.grammar import parse_record
from tests.console.stand import Stand
from tests.guest import Guest

RECORD = (
    "name=lpar1, keystore_kbytes={}, keystore_signed_updates={}, "
    "keystore_signed_updates_without_verification={}, linux_dynamic_key_secure_boot={}, secure_boot={}"
)

PIPE = 'sed s/,/\\\\\\n/g | grep "secure_boot\\|keystore"'


async def piped(stand: Stand, line: str) -> str:
    """Run a line with its output through a pipe of the console's shell."""
    command, _, pipe = line.partition(" | ")
    out = await stand.done(command)
    done = subprocess.run(
        ["/bin/bash", "-c", pipe], input=f"{out}\n", capture_output=True, text=True, check=False
    )
    return done.stdout


async def test_the_walk_of_op_test(stand: Stand) -> None:
    """R-36: The lines of op-test set attributes, restart the partition, arm the latch, and zero all.

    While anything is stored, the zeroing is refused with HSCL0DC8.
    """
    await stand.done('mksyscfg -r lpar -m S -i "name=lpar1,profile_name=default_profile,lpar_env=aixlinux"')
    await stand.done(f'chsyscfg -r lpar -m S -i "{RECORD.format(64, 1, 1, 1, 2)}"')
    look = 'lssyscfg -r lpar -m S --filter "lpar_names=lpar1" | ' + PIPE
    reported = set((await piped(stand, look)).split())
    assert {
        "secure_boot=2",
        "curr_secure_boot=0",
        "keystore_kbytes=64",
        "keystore_signed_updates=1",
    } <= reported
    await stand.done("chsysstate -m S -r lpar -n lpar1 -o on -f default_profile")
    assert "curr_secure_boot=2" in await piped(stand, look)
    stand.write("lpar1")
    await stand.done("chsysstate -m S -r lpar -n lpar1 -o shutdown --immed")
    state = await stand.done("lssyscfg -m S -r lpar --filter lpar_names=lpar1 -F name state")
    assert '"Not' in state
    armed = 'chsyscfg -r lpar -m S -i "name=lpar1, keystore_signed_updates_without_verification=1"'
    await stand.done(armed)
    zeroed = f'chsyscfg -r lpar -m S -i "{RECORD.format(0, 0, 0, 0, 0)}"'
    assert (await stand.refused(zeroed)).startswith("HSCL0DC8 ")
    assert "keystore_kbytes=64" in await piped(stand, look)
    await stand.done("chsysstate -m S -r lpar -n lpar1 -o on")
    assert Guest(stand.machine().system.find("lpar1")).remove(3, b"label").status == 0
    await stand.done("chsysstate -m S -r lpar -n lpar1 -o shutdown --immed")
    assert await stand.done(zeroed) == ""
    reported = set((await piped(stand, look)).split())
    assert {"secure_boot=0", "keystore_kbytes=0", "linux_dynamic_key_secure_boot=0"} <= reported
    await stand.done("chsysstate -m S -r lpar -n lpar1 -o on")
    assert Guest(stand.machine().system.find("lpar1")).write(3, b"label", b"data").status == -2


async def test_the_form_of_ansible(stand: Stand) -> None:
    """R-36: ansible puts the whole command into single quotes for ssh, so its own quotes are double."""
    sent = "mksyscfg -r lpar -m S -i 'name=a,lpar_env=aixlinux,keystore_kbytes=64,min_mem=1024'".replace(
        "'", '"'
    )
    await stand.done(sent)
    await stand.done('mksyscfg -r lpar -m S -i "name=b,keystore_kbytes=4"')
    remote = shlex.split("ssh hscroot@hmc '" + 'lssyscfg -r lpar -m S --filter "\\"lpar_names=a,b\\""' + "'")[
        2
    ]
    lines = (await stand.done(remote)).split("\n")
    found = [{pair.name: pair.value for pair in parse_record(line)} for line in lines]
    assert [each["name"] for each in found] == ["a", "b"]
    assert [each["keystore_kbytes"] for each in found] == ["64", "4"]
    reported = await stand.refused('lssyscfg -r lpar -m S --filter "lpar_names=c"')
    assert reported == "HSCL8012 The partition named c was not found."
