"""Soak test of the stream against the failures of a factory floor, with real parts, on one machine."""
