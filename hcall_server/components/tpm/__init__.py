"""TPMs that wrap the PKS root key: one inside the server, or a TPM 2.0 outside (spec/components.md#tpm).

`kinds.open_tpm` returns a TPM.  A start loads only the module of its own kind.  So the embedded TPM loads
no sockets, no threads and no TPM software stack.
"""
