"""The judge of a server: it connects as a partition and tries every case (spec/conformance.md)."""
