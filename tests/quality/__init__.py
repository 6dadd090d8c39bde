"""False alarms and delays against promises, beside what others do on the same streams: ``python -m tests.quality``."""
