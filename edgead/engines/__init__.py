"""Bundles on a backend of this machine."""
