"""Where networks come from: one file for each kind of name, see `kind.Kind`."""
