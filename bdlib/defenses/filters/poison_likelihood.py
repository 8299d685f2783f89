"""The path by which the yaml of VAE-PLS calls its judge.

What a yaml says is part of the names of the runs that were made by it, so that it stays.
"""

from bdlib.defenses.filters.vae_pls.judge import poison_likelihood

__all__ = ["poison_likelihood"]
