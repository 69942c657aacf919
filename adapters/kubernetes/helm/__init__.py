"""Helm behind a small protocol: charts found, rendered, installed, upgraded and removed."""
