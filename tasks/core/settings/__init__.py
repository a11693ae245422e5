"""Every setting, typed, bounded and explained."""
