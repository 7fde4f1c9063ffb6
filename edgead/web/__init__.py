"""Web server of a running stream: page, REST interface, live view, health and metrics."""
