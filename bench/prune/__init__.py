"""From a network and images to a smaller network and the files that serve it: what `greenprune prune` does."""
