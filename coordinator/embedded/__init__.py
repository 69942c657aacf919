"""Embedded services: Postgres, Redis, coordinator, reconciler and workers under one supervisor."""
