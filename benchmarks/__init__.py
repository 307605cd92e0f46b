"""How fast, how good: measurements beside re-derived peers, kept as validated JSON records."""
