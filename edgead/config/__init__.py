"""Settings: their defaults, ranges and meaning, and how files become them."""
