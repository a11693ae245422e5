"""Labelled images: checks, splits, folds, duplicates, synthetic images."""
