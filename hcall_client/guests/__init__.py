"""Emulated programs of a partition: firmware, boot loader and kernel, with their labels and files.

Nothing is imported here: the kernel needs Trio, and labels and auth files are used without it.
"""
