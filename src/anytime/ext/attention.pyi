"""Nothing to call: ``__file__`` is the library that ONNX Runtime loads."""
