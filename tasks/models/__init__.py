"""Trained models: fitting, saving, describing and predicting."""
