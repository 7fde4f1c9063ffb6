"""Folders of images: finding, reading and splitting them, and generated parts. Free of torch."""
