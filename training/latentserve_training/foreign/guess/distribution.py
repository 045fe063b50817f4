"""The kind, the prior and the likelihood of a foreign model, of which graphs say little."""

from __future__ import annotations

from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.guess.draft import Draft
from latentserve_training.foreign.setting import setting

_ALONE = (
    f"what is a decoder alone? {setting('kind', 'gan')} if it is a gan's generator, or another's decoder of which "
    "there are only to be samples; for a vae, an autoencoder or a vq name the encoder's file behind the decoder's"
)


def guess_kind_alone(draft: Draft) -> None:
    """Settle the kind of a model without an encoder."""
    kind = draft.value("kind")
    if kind is None:
        draft.ask("kind", _ALONE)
    elif kind != "gan":
        draft.ask("encoder.file", f"a {kind} has an encoder; name its file behind the decoder's")


def guess_prior(draft: Draft) -> None:
    """Settle what latents are drawn from: never N(0, I) by itself, but nothing where a model can do without."""
    kind = draft.value("kind")
    if kind == "vq":
        draft.guess("prior", "none", "no graph that draws codes is named, so a server does not sample")
    elif kind == "autoencoder":
        reason = "nothing says that latents can be drawn, so a server does not sample; standard_normal is the other way"
        draft.guess("prior", "none", reason)
    else:
        draft.ask(
            "prior",
            f"what are latents drawn from? {setting('prior', 'standard_normal')} if it was trained with N(0, I), "
            f"{setting('prior.mixture', 'FILE.npz')} or {setting('prior.graph', 'FILE.onnx')} if it has another prior",
        )


def guess_likelihood(draft: Draft, graph: ForeignGraph, image: str | None) -> None:
    """Ask for the likelihood of a VAE, and for what that one needs."""
    if draft.value("kind") != "vae":
        return
    draft.ask(
        "likelihood",
        f"what is the likelihood of pixels? {setting('likelihood', 'bernoulli')} if the loss was binary cross-entropy, "
        f"{setting('likelihood', 'gaussian')} if it was a squared error, or discretized_logistic; the last two have a "
        f"scale, {setting('log_scale', 0)} if the loss was half of the sum of squares",
    )
    likelihood = draft.value("likelihood")
    if likelihood == "bernoulli" and image is not None and graph.logits_of(image) is None:
        draft.ask(
            "decoder.logits",
            f"no Sigmoid gives {image!r}; which tensor has the logits? {setting('decoder.logits', image)} if that one",
        )
    scaled = any(draft.is_told(key) for key in ("log_scale", "decoder.log_scale", "decoder.log_variance"))
    if likelihood in ("gaussian", "discretized_logistic") and not scaled:
        draft.ask(
            "log_scale",
            f"what is the logarithm of the {likelihood} likelihood's scale, in units of image_range? "
            f"{setting('log_scale', 0)}, or a tensor: {setting('decoder.log_scale', 'NAME')}"
            + f" or {setting('decoder.log_variance', 'NAME')}"
            * (likelihood == "gaussian"),
        )
