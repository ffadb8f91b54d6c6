"""Training: optimizer and schedules so far."""
