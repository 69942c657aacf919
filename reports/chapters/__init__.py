"""What the pages of a run say and draw, chapter by chapter; no HTML. ``chapters_of`` gives those a run has data for."""

from reports.chapters.book import chapters_of

__all__ = ["chapters_of"]
