"""Consumers of results and notices in the process: alert spool, clips, recording, window, threshold memory."""
