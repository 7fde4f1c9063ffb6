"""A shadow: another model that judges a share of the frames beside the one that decides."""
