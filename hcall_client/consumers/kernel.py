"""Old name of `hcall_client.guests.kernel`; stays for one release."""

from hcall_client.guests.kernel import *  # noqa: F403
