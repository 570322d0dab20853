"""Tables: terminal, Markdown, CSV, LaTeX."""
