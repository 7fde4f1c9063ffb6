"""Detectors: a frozen backbone, a flow per level and a score head."""
