"""The network as ONNX graphs: export, check against torch, and running with onnxruntime."""
