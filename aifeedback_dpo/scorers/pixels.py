"""Pictures to what a tower sees, exactly and explicitly, and once for all scorers that want the same.

To be written: `PixelRecipe`, and `Pictures`.
"""
