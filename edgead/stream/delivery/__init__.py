"""How events reach others: at least once, in order, under one key, each sink at its own pace."""
