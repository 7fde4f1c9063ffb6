"""Frame sources: cameras, video files, image folders, network streams and synthetic parts."""
