"""Evidence by color, and the rules that make a verdict of it."""
