"""Which runs a suite means, and what they take."""
