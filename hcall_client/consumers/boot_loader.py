"""Old name of `hcall_client.guests.boot_loader`; stays for one release."""

from hcall_client.guests.boot_loader import *  # noqa: F403
