"""What machine this is, and what else runs on it."""
