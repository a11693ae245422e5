"""Network builders, and faster forms of the same functions."""
