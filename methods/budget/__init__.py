"""What to keep so that a budget is met."""
