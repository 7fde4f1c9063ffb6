"""Comparison with anomalib on the same images, weights and size."""
