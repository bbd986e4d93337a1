"""From an accuracy or a latency that is given to the recipe that keeps it."""
