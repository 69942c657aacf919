"""What every page and endpoint stands on: callers, guards, problems, streams, and the pages themselves."""
