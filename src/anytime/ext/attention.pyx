# cython: language_level=3
"""The attention operator for ONNX Runtime, in a library of its own: ``attention_op.c``.

The module exists to be found: ``__file__`` is what ONNX Runtime's ``RegisterCustomOpsLibrary`` is given, whether by our
engine or by a session in Python. Plain Python reference: ``tests/test_attention.py``.
"""
