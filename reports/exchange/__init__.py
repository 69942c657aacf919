"""Results for other tools, and other tools' results beside ours. Pure: an analysis in, bytes out."""
