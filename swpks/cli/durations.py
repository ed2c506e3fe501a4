"""Lengths of time on the command line."""

import argparse


def bounded_seconds(text: str, most: float, name: str) -> float:
    """Return seconds, above 0 and at most `most`; ArgumentTypeError that has `name` for any other text."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is no {name}: above 0, at most {most:.0f} s")
    return found
