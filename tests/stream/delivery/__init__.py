"""Tests of edgead.stream.delivery."""
