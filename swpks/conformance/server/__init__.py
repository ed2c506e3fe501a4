"""The judge of a server: connect to it as a partition, try every case, and report (spec/conformance.md)."""
