"""What can be removed from a network, and its removal."""
