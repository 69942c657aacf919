"""The nouns everyone shares: plan, matrix, trial, histogram, errors, settings, queue, store."""
