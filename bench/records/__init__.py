"""What a run leaves behind: stored, read, loaded."""
