"""What `dynamic` stands on: work that is really skipped."""
