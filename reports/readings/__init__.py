"""What is read from trials: metrics, levels of single arms, curves and costs."""
