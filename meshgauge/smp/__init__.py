"""Service Mesh Performance test configurations, read as plans."""
