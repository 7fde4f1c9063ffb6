"""The camera runtime: source, slot, detector, alerts and sinks; no torch and no backend, only a `Runner`."""
