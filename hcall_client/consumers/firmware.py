"""Old name of `hcall_client.guests.firmware`; stays for one release."""

from hcall_client.guests.firmware import *  # noqa: F403
