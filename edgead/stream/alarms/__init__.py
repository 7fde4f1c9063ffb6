"""Alarm rates: measurement, promises and their control, and the ranges of thresholds."""
