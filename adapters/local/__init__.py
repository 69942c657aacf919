"""Meshes as processes on this host: real data planes, one file each."""
