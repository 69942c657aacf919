"""The face: HTTP API, pages, schedules, reconciler, command line, embedded services."""
