"""The benchmark: `python -m bench`, or `make bench`.  bench/README.md tells what is measured and how."""
