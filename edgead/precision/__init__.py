"""Precision variants of an exported graph, made on the device and without torch: FP16 and INT8."""
