"""What a keystore is: objects, consumers, passwords, policies and space.  Pure: no I/O, no clock."""
