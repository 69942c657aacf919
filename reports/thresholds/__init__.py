"""The plan's thresholds held against a run: what passed, what failed, what is undecided, and in which words."""
