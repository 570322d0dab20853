"""Pages and files made of tables and figures."""
