"""Where frames come from: cameras, video files, folders of pictures, network streams and synthetic parts."""
