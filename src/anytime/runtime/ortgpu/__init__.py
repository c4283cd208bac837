"""The engine on ONNX Runtime's providers for NVIDIA GPUs."""
