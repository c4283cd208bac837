"""``python -m bench.guarantee``: never late without an answer, alone, together, under faults, and for an hour."""
