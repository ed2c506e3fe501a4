"""Live migration between two managed systems: the channel, and the drivers of its two ends."""
