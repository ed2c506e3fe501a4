"""The completion of each shell as text, made of the words of the command line (swpks.cli.words)."""
