"""What an answer may look like, and writing it."""
