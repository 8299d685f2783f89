"""VAE-PLS: an autoencoder of the untrusted clips, and a judge of its latents, class by class.

`VaePls` is called by this path in `vae_pls.yaml` and `vae_pls_search.yaml`; what a yaml says is part of
the names of the runs that were made by it.
"""

from bdlib.defenses.filters.vae_pls.filter import VaePls

__all__ = ["VaePls"]
