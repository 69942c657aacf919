"""One API server, as one user: asked, watched and waited for."""
