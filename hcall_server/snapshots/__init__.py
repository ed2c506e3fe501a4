"""Named snapshots of a system: files, plans of loads, differences, and the answers of the verbs."""
