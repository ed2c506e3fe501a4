"""The benchmark: `python -m bench`, or `make bench`.  bench/README.md describes the measurements."""
