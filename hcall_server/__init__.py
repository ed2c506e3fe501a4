"""The server side of swpks: keystore engine, managed system, sealing, NVRAM and both channels."""

__version__ = "0.1.0"
