"""What a running stream shows about itself: counts, scores, health and live images."""
