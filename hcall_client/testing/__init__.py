"""Old name of `swpks.testing`; stays for one release."""

import warnings

from swpks.testing import EmulatedPartition, ServerFailed, ServerProcess, emulated_partition

__all__ = ["EmulatedPartition", "ServerFailed", "ServerProcess", "emulated_partition"]

warnings.warn("hcall_client.testing has moved to swpks.testing", DeprecationWarning, stacklevel=2)
