"""Requests on tape, and thought about again by their tapes."""
