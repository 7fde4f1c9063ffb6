"""Alarm rates: promises, what keeps them, and the ranges of thresholds."""
