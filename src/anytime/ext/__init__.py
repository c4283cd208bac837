"""Compiled kernels. They know numbers, not rooms; each has a plain Python reference in the room that uses it."""
