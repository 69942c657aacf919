"""Postgres: the truth about runs, environments, trials and what was measured."""
