"""The managed system around the keystores: partitions, power, sizes, the root key and its copies."""
