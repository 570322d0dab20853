"""Several processes or jobs on one node: who reports its energy, and what part of it is whose."""
