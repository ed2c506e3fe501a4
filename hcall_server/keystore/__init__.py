"""The keystore of a partition: objects, consumers, passwords, policies, space.  Pure: no I/O, no clock."""
