"""The parts of every server process: the lock of its folder, log, ready line, signals, no dumps."""
