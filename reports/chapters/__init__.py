"""What the pages of a run say and draw, chapter by chapter; no HTML. ``book.chapters_of`` puts them in order."""
