"""One module per way to bring a version onto a color."""
