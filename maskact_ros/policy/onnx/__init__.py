"""The network as ONNX graphs: export, comparison with torch, and execution with onnxruntime."""
