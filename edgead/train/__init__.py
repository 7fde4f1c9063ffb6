"""From good images to fitted flows: feature cache, closed-form start, epochs, checkpoints."""
