"""Delivery of events to sinks: at least once, in order, with one key per event, each sink at its own pace."""
