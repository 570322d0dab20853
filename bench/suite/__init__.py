"""Suite files: what they may hold, checked."""
