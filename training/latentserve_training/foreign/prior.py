"""Whether a foreign model's latents are drawn from its own prior, or from any."""

from __future__ import annotations

import re

from latentserve_training.foreign.description import ForeignModel

_OTHERS = {
    "vamp": "VampPrior is a mixture of posteriors",
    "flow": "a flow may be the prior, or the posterior",
    "nf": "a flow may be the prior, or the posterior",
    "linnf": "a flow may be the prior, or the posterior",
    "iaf": "a flow may be the prior, or the posterior",
    "maf": "a flow may be the prior, or the posterior",
    "realnvp": "a flow may be the prior, or the posterior",
    "vq": "its latents are codes of a codebook",
    "vqvae": "its latents are codes of a codebook",
    "vqgan": "its latents are codes of a codebook",
    "svae": "its latents lie on a sphere",
    "poincarevae": "its latents lie in a ball of hyperbolic space",
    "poincare": "its latents lie in a ball of hyperbolic space",
    "rhvae": "its latents are drawn along a metric that it has learned",
    "rae": "its prior is fitted after the training",
    "ae": "its latents have no prior",
    "autoencoder": "its latents have no prior",
    "gmvae": "its prior is a mixture",
    "vade": "its prior is a mixture",
}
"""Words of a family's name, in small letters, that stand for another prior than N(0, I), and which."""
_WORD = re.compile(r"[a-z0-9]+")


def lack(description: ForeignModel) -> str:
    """A remark that the model cannot draw latents, where the description does not say so; else empty."""
    if description.has_prior or description.prior is not None:
        return ""
    numbers = "`prior: standard_normal` if the decoder was made for it, or a mixture or a graph"
    return (
        "prior: none is described, so a server will decode and encode but not sample; state "
        f"{'a graph' if description.kind == 'vq' else numbers}, or `prior: none`"
    )


def doubt(description: ForeignModel) -> str:
    """A remark that N(0, I) may not be the model's prior; empty where it is stated, and for a GAN."""
    if description.kind != "vae" or description.prior is not None:
        return ""
    words = _WORD.findall(description.family.lower().replace("vampprior", "vamp"))
    drawn = "prior: samples are drawn from N(0, I)"
    stated = "state `prior: standard_normal` if it is the model's own"
    for word in words:
        if word in _OTHERS:
            likely = f"which is probably not the prior of the family {description.family!r}: {_OTHERS[word]}"
            return f"{drawn}, {likely}; {stated} all the same"
    return f"{drawn}, and the description does not say that this is the model's prior; {stated}"
