"""Pure: trials in, numbers, figures and pages out."""
