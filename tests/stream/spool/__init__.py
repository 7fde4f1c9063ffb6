"""Tests of edgead.stream.spool."""
