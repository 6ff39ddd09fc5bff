"""What this machine computes with, and what slows it down."""
