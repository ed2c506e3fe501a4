"""The parts of every server process: folder lock, log, ready line, signals, protection of memory."""
