"""Durable store of alerts, their files and events: on disk before anything is delivered."""
