"""Months of traffic at every rate, from 50 events a day to 10,000 a second: ``python -m tests.rates``."""
