"""Tests of edgead.stream.consumers."""
