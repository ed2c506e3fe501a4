"""Old name of `hcall_client.guests.common`; stays for one release."""

from hcall_client.guests.common import *  # noqa: F403
