"""Making an engine that passes its gate."""
