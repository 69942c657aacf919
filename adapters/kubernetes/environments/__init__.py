"""Environments in a cluster: application, load and proof of treatment around one mesh."""
