"""CPU time from broker to closed ticks, beside that of a plain consumer with River: ``python -m tests.bench``."""
