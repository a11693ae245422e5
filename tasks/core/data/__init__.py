"""Labelled images: validation, splits, folds, duplicates, drawn images."""
