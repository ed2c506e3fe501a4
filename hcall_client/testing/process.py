"""Old name of `swpks.testing.process`; stays for one release."""

from swpks.testing.process import *  # noqa: F403
