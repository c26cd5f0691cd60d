"""One module per kind of router; what they share is in nodes."""
