"""Using a trained network: on one image, files or a split, and as ONNX."""
