"""A closed driving loop in highway-env; see docs/highway.md."""
