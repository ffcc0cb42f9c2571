"""Retrains every weight of the embedded world from nothing: `python -m aifeedback_dpo.shapes.build`."""
