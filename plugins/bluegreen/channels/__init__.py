"""Ways to people: one module a kind, and what delivers to all of them side by side."""
