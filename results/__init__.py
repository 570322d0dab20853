"""Records of the shipped suites. Installed with the package is `published.csv` alone."""
