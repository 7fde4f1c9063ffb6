"""Monitoring of a running stream: counts, scores, health and live images."""
