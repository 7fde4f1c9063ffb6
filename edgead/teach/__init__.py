"""Teaching on the device: a closed-form model from a few good pictures, with numpy and ONNX Runtime alone."""
