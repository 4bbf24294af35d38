"""The recipes that come with the package: finding, listing and copying them."""

from ray_sft.recipes.catalog import copy_recipe, find_recipe, packaged_recipes

__all__ = ["copy_recipe", "find_recipe", "packaged_recipes"]
