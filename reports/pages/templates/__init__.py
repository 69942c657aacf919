"""Jinja templates and the style sheet of pages."""
