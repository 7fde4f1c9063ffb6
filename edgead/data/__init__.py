"""Image folders: find, check, read and split them; synthetic parts. No torch."""
