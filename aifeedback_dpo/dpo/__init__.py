"""Stage 3: Diffusion-DPO. The only place that speaks of winners and losers."""
