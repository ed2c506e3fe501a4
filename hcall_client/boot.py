"""Old name of `hcall_client.guests.boot`; stays for one release."""

from hcall_client._moved import moved

(_boot,) = moved(
    "hcall_client.boot", "hcall_client.guests.boot", {"hcall_client.boot": "hcall_client.guests.boot"}
)

BootedChain, boot = _boot.BootedChain, _boot.boot
