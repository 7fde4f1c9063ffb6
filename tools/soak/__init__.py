"""The stream against everything that fails on a factory floor, with real parts, on this machine alone."""
