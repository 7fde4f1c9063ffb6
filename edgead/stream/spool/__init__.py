"""What a stream must not lose: alerts, their evidence and the events that tell others, on disk before anybody hears."""
