"""Celery tasks and the subprocesses that bring environments up, drive load and record what happens."""
