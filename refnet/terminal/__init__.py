"""How work shows itself on a terminal, and how signals stop it."""
