"""Which channels hang together, read off the operations that a forward pass executes."""
