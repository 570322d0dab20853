"""The training loop, the same for every method, and its ledger."""
