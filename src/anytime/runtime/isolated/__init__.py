"""A Reasoner in a process of its own: shared memory between, one process that is watched and started again."""
