"""The camera runtime: sources, scorer, alerts and consumers; no torch and no backend, only a `Runner`."""
