"""Where results go: alert folder, recording, window."""
