"""What engines on an NVIDIA GPU have in common: its memory and streams, rows, steps, and a GPU that is lost."""
