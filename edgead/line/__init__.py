"""Assembling the cameras, thresholds and dashboard of a running line."""
