"""edgead: from a folder of good images to trusted anomaly alerts on an embedded camera."""

__version__ = "0.1.0"
