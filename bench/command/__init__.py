"""A command run as if alone, and the account of what its processes use."""
