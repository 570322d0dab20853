"""Networks that people prune, tiny; what gating and Torch-Pruning make of each, in a table. See `table`."""
