"""Two sides compared: questions, differences of blocks, verdicts, any two runs, confirmation."""
