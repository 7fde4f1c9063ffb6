"""From a trained model to the graph that every backend runs."""
