"""Measure GridHub against its alternatives, in the same run on the demo: ``make bench``."""
