"""Partition firmware that owns the keystore's first consumer: QEMU's SLOF, with client services of ours.

forth              the services in Forth, made from the tables of hcall_abi
client_interface   a call of SLOF's client interface from outside
"""
