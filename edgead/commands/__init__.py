"""Commands, one verb per file: plain functions that return a result; the only place where both sides meet."""
