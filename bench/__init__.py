"""Side-by-side measurements: each bench is a command that prints a table and its figures, and writes JSON."""
