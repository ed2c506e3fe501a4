"""Old name of `swpks.testing.partition`; stays for one release."""

from swpks.testing.partition import *  # noqa: F403
