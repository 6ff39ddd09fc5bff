"""The paper's claims as experiments: two variants, several seeds and a verdict."""
