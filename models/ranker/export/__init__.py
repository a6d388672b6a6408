"""Export: from a trained network to the ONNX graph that is served, checked against torch."""
