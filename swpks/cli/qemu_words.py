"""The error for a word that is no option of `swpks qemu`: of QEMU, of another command, or misspelt."""

# Why there is a list of QEMU's options
#
# The advice "put it behind --" is right for an option of QEMU alone.  For an option of another command, for a
# misspelt one and for a word without an option it leads to a second error, by QEMU.  The installed QEMU could
# print its list, but it may be missing on the host.  Options of a later QEMU have one dash, as all of its
# options in its own documentation, and ours have two.  So they get the advice too.

from __future__ import annotations

from argparse import Action
from collections.abc import Collection, Mapping, Sequence

from hcall_abi.near import near_question
from swpks.cli.words import of_other_commands

_NAMES = """
accel action add-fd append async-teardown audio audio-help audiodev bios blockdev boot cdrom chardev chroot
compat cpu d daemonize debugcon device dfilter display drive dtb dump-vmstate echr enable-kvm
enable-sync-profile fda fdb fsdev full-screen fw_cfg g gdb global h hda hdb hdc hdd help icount incoming
initrd iscsi k kernel loadvm m machine mem-path mem-prealloc mon monitor msg mtdblock name net netdev nic
no-reboot no-shutdown no-user-config nodefaults nographic numa object only-migratable option-rom overcommit
parallel pflash pidfile plugin portrait prom-env qmp qmp-pretty readconfig rotate rtc runas s sandbox sd
seed serial set singlestep smp snapshot spice tpmdev trace usb usbdevice uuid version vga virtfs vnc
watchdog-action
"""
QEMU_OPTIONS = frozenset(_NAMES.split())
"""The options of qemu-system-ppc64 7.2, by its -help; QEMU accepts each with two dashes as well."""


def refusal(words: Sequence[str], own: Collection[str]) -> str:
    """Return the message for the first of `words`, which is no option of `swpks qemu`.

    The other words follow it on the command line; `own` are the options of `swpks qemu`.
    """
    from swpks.cli.main import whole_parser  # only this error needs the parsers of all commands

    option = words[0].partition("=")[0]
    if "=" in words[0] and not option.startswith("-"):
        # The shell splits a kernel's command line without quotes, and its second parameter arrives here.
        advice = f"; a value with spaces needs quotes, such as --append 'console=hvc0 {words[0]}'"
    elif option == "--keystore":
        advice = "; the size of a keystore is part of the value: --partition NAME:64"
    elif not option.startswith("-"):
        advice = f"; a value needs its option before it, such as --initrd {words[0]}"
    elif option.startswith("--"):
        advice = of_other_commands(whole_parser(), option) or near_question(option, own)
    else:
        same = f"-{option}"
        advice = f"; did you mean {same}?" if same in own else ""
    if _is_for_qemu(option, advice):
        advice += f"; options of qemu-system-ppc64 go behind --, such as: -- {' '.join(_with_values(words))}"
    return f"{words[0]} is no option of swpks qemu{advice}"


def _is_for_qemu(option: str, advice: str) -> bool:
    if option.lstrip("-") in QEMU_OPTIONS:
        return option.startswith("-")
    return option.startswith("-") and not option.startswith("--") and not advice


def _with_values(words: Sequence[str]) -> list[str]:
    """Return an option and the values that follow it."""
    end = next((at for at, word in enumerate(words) if at and word.startswith("-")), len(words))
    return list(words[:end])


def stray(words: Sequence[str], own: Mapping[str, Action]) -> str:
    """Return "; X stands without an option: ..." for the first such word, "" for none."""
    before = ""
    for word in words:
        valued = before in own and own[before].nargs != 0
        if not word.startswith("-") and not valued:
            return f"; {word} stands without an option: --partition NAME, --kernel FILE or --initrd FILE"
        before = "" if valued else word
    return ""
