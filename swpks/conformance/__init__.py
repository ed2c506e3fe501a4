"""Conformance cases: they judge any server and any client of the data channel by the contract (R-80).

    swpks conformance server --connect unix:lab/run/lpar1.sock
    swpks conformance client --exec './my-client'

`swpks.conformance.server` judges a server, `swpks.conformance.client` a client.  The page for users is
spec/conformance.md.
"""

# The judge
#
# Another implementation of the data channel (a QEMU device, firmware, an FPGA, a client in C) needs a list of
# its faults, with the page and the rule of each.  The judge must guarantee three things:
#
#   1. A verdict names one statement of the contract.  A case tries one statement.  If a case fails, its id,
#      its rule and its page are printed, with the frames that were sent and received.
#   2. A right implementation passes.  No case depends on anything that the contract leaves open.  Two times
#      are limits of the judge: 5 s for an answer, and the 5 s in which Linux expects a flush.
#   3. A wrong implementation fails.  Mutants of a right server prove it: each changes one thing, and one case
#      has to fail (docs/conformance.md lists both).
#
# The judge uses the tables of `hcall_abi` and nothing of the server.  The server may use these tables too.
# Then judge and server have the same mistake, and no case fails.  So three expectations come from elsewhere:
# the golden vectors of frames, the offsets of the config block (chapter `limits` has them from the page), and
# the sentences of `oracle.py`, which state the authorisation rules a second time.  The vectors of wrapped
# objects are of no use here: no call imports their keys.
#
# We dropped a judge that replays recorded sessions.  A recording can't follow a server that picks its own
# nonces, tokens and passwords, and a difference in a recording names no rule.
