"""One script for each engine, run as a child process by the Python of that engine's environment."""
