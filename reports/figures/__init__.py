"""Matplotlib figures: each with a title a stranger understands, its alt text and the data behind it."""
