"""A schedule followed over its nights: points, steps, what a confirming run found."""
