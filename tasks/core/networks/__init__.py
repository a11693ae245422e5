"""Network builders, and equivalent layers that train faster."""
