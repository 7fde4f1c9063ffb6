"""A running stream on the network: REST interface, live pictures, health and metrics."""
