"""From a prompt to an answer by the deadline: engines, the decode loop, the answer bank, the Reasoner."""
