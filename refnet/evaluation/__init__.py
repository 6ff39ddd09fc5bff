"""What trained networks predict, and how often they are wrong."""
