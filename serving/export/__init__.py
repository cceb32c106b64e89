"""From a snapshot to ONNX models in a repository for Triton."""
