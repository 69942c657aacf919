"""CPU and memory of everything in a cluster, each number with its instant and who counted it."""
