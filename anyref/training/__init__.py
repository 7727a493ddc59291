"""Training: one loop, flow matching, any method."""
