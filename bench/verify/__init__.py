"""Whether results are what they say: networks loaded again, counted again, evaluated again."""
