"""Tests of the camera runtime, with their fakes."""
