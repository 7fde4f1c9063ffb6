"""Files that say more about images than folders do: annotation exports and the tables of published data sets."""
