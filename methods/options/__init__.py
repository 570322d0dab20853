"""What a suite has to know of the methods: their names and options. Nothing here imports torch."""
