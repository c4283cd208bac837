"""Requests that are thought about again, by their tapes."""
