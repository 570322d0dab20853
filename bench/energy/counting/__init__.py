"""Running totals of counters and of power: when they move, what they wrapped around, what was noted meanwhile."""
