"""TPMs that wrap the PKS root key: one inside the server, or a TPM 2.0 outside (spec/components.md#tpm).

`open_tpm` in `kinds` is the way in.  A start loads only the module of its own kind: sockets, threads and
TPM software stack are not loaded for the embedded TPM.
"""
