"""What has to be there, and what has to be allowed, before anything is made in a cluster."""
