"""Faults on demand: busy answers of h-calls, and faults of NVRAM.

The faults are in wrappers around the h-calls of a partition and around NVRAM.
"""
