"""Files for other languages, made from the tables of the contract: the C header, the Wireshark dissector.

No server and no client needs this room.  `tools/exports.py` writes the files, and a test compares them.
"""
