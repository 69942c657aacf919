"""The Kubernetes provider: meshes installed in a cluster, measured there, and removed without trace."""
