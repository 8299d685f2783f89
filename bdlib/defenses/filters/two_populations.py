"""The path by which the yaml of VAE-PLS calls its search.

What a yaml says is part of the names of the runs that were made by it, so that it stays.
"""

from bdlib.defenses.filters.vae_pls.search import two_populations

__all__ = ["two_populations"]
