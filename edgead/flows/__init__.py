"""Invertible maps with exact log-determinants."""
