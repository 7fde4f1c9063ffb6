"""The parts of `edgead train`: device, data, run folder, needs and curve."""
