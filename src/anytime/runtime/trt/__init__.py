"""The engine on TensorRT. Nothing here is imported until an engine on a GPU is asked for."""
