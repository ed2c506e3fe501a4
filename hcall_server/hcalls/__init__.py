"""From registers and guest memory to a keystore operation, and from its outcome to a status.  Pure."""
