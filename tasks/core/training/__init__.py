"""The training loop, augmentation, and the state between epochs."""
