"""What was in a cluster before, and how everything that came after goes again."""
