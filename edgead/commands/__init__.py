"""One verb per file: plain functions that return a result; the only place where the two sides meet."""
