"""The client side of swpks: channels, typed h-calls and the emulated consumers of a partition."""
