"""Preference data from reward models or people, Diffusion-DPO on it, and an honest comparison of the two."""
