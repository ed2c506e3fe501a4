"""Faults on demand: busy answers of h-calls and faults of NVRAM, as decorators around the seams."""
