"""Model families, one file each: the only place that knows a diffusers architecture."""
