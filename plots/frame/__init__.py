"""Records as tidy tables, and what is wrong with them."""
