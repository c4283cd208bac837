"""Lines of thought in the engine."""
