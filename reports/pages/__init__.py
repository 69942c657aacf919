"""Chapters as HTML: single documents, folders of pages, a site of them."""
