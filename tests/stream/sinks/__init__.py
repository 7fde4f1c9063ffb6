"""Tests of edgead.stream.sinks."""
