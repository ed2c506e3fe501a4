"""Old name of `hcall_client.guests.boot`; stays for one release."""

import warnings

from hcall_client.guests.boot import BootedChain, boot

__all__ = ["BootedChain", "boot"]

warnings.warn("hcall_client.boot has moved to hcall_client.guests.boot", DeprecationWarning, stacklevel=2)
