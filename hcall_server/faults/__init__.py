"""Faults on demand: busy answers of h-calls and troubles of NVRAM, as decorators around the seams."""
