"""CARD.md, the model card of a bundle."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from latentserve.v1 import bundle_pb2
from latentserve_training.evaluation.report import Report

_KINDS = {
    bundle_pb2.MODEL_KIND_VAE: "variational autoencoder",
    bundle_pb2.MODEL_KIND_GAN: "generative adversarial network",
    bundle_pb2.MODEL_KIND_AUTOENCODER: "deterministic autoencoder",
    bundle_pb2.MODEL_KIND_VQ: "vector-quantised autoencoder",
}


def card(
    manifest: bundle_pb2.Manifest, report: Report | None = None, collapse: str = "", remarks: Sequence[str] = ()
) -> str:
    """The model card, in Markdown, of the bundle that `manifest` describes.

    `report` judged its weights; `collapse` says in what way its samples have collapsed, where they have; `remarks` are
    what else is to be known of how it was made.
    """
    provenance, image = manifest.provenance, manifest.image
    return f"""# {manifest.name}

A {_KINDS[manifest.kind]} ({provenance.family}) that draws {image.height}x{image.width} \
{_colours(image.channels)} images from {_latents(manifest.latent)}{_labels(manifest)}.

{_warning(collapse)}{_samples(manifest)}

## Data

{_data(provenance)}
It knows nothing else: its samples look like that data and carry whatever bias that data has.

## Results

{_results(manifest) if report is None else _evaluation(manifest, report)}

## Graphs

{_graphs(manifest)}

Pixels are float32 from {image.min_value:g} to {image.max_value:g}.
`image_uint8` is 255 times that, rounded half to even.
{_likelihood(manifest)}
## Making

{_making(provenance)}
{_remarks(remarks)}Software: {", ".join(f"{name} {version}" for name, version in sorted(provenance.software.items()))}.
Licence: {manifest.license or "not stated"}.

```json
{json.dumps(json.loads(provenance.config_json), indent=2)}
```
"""


def _warning(collapse: str) -> str:
    return f"**Collapsed:** {collapse}; it was published by `--force`.\n\n" if collapse else ""


def _data(provenance: bundle_pb2.Provenance) -> str:
    trained = f"Trained on `{provenance.dataset}`" if provenance.dataset else "What it was trained on is not stated"
    digest = provenance.dataset_sha256
    return f"{trained}; SHA-256 of the training images: `{digest}`." if digest else f"{trained}."


def _making(provenance: bundle_pb2.Provenance) -> str:
    if not provenance.checkpoint_sha256:
        return "Imported from ONNX files, whose digests stand below."
    code = provenance.git_commit or "commit unknown"
    return (
        f"{provenance.training_steps:,} training steps.\n"
        f"Code: {code}. Checkpoint SHA-256: `{provenance.checkpoint_sha256}`."
    )


def _remarks(remarks: Sequence[str]) -> str:
    return "\n".join(["", *(f"- {remark}." for remark in remarks), "", ""]) if remarks else ""


def _colours(channels: int) -> str:
    return {1: "grey", 3: "RGB"}.get(channels, f"{channels}-channel")


def _latents(latent: bundle_pb2.LatentSpec) -> str:
    """How many latents or codes there are, and what they are drawn from."""
    shape = f" ({'x'.join(map(str, latent.shape))})" if latent.shape else ""
    held = f"{latent.dim} codes{shape}, each of {latent.codes:,}" if latent.codes else f"{latent.dim} latents{shape}"
    mixture = latent.mixture.components
    drawn = {
        bundle_pb2.PRIOR_STANDARD_NORMAL: "with a standard normal prior",
        bundle_pb2.PRIOR_MIXTURE: f"with a mixture as their prior (Gaussians: {mixture})",
        bundle_pb2.PRIOR_GRAPH: f"that a graph of its own makes of {latent.noise_dim} normal numbers",
        bundle_pb2.PRIOR_UNSPECIFIED: "without a prior, so that it does not sample",
    }[latent.prior]
    beside = latent.prior == bundle_pb2.PRIOR_STANDARD_NORMAL and mixture
    return f"{held} {drawn}" + f", or a fitted mixture (Gaussians: {mixture})" * bool(beside)


def _labels(manifest: bundle_pb2.Manifest) -> str:
    if not manifest.HasField("labels"):
        return ""
    named = f" ({', '.join(manifest.labels.names)})" if manifest.labels.names else ""
    return f", and one of {manifest.labels.count} labels{named}"


def _samples(manifest: bundle_pb2.Manifest) -> str:
    there = any(file.path == "samples.png" for file in manifest.files)
    return "![samples](samples.png)" if there else "It has no picture of samples."


def _evaluation(manifest: bundle_pb2.Manifest, report: Report) -> str:
    """The report's numbers and their protocols, the pictures in the bundle, and the names of the others."""
    sections = "\n\n".join(section.markdown(level=3) for section in report.sections)
    here = [file.path for file in manifest.files if file.path in report.pictures]
    shown = "\n".join(f"![{Path(name).stem}]({name})" for name in here if name != "samples.png")
    others = "\n".join(f"| {name} | `{digest}` |" for name, digest in report.pictures.items() if name not in here)
    return f"""\
On images that neither training nor the choice of weights saw, by `latentserve-evaluate`, after epoch {report.epoch}.
n is the number of images a result was measured on.

{sections}

### Pictures

{shown}

Those that show images of the data, or what was drawn after one, stay with the run:

| picture | SHA-256 |
| --- | --- |
{others}"""


def _results(manifest: bundle_pb2.Manifest) -> str:
    if not manifest.metrics:
        return "None recorded."
    rows = [f"| {name} | {value:.6g} |" for name, value in sorted(manifest.metrics.items())]
    return "\n".join(["| metric | value |", "| --- | --- |", *rows])


def _graphs(manifest: bundle_pb2.Manifest) -> str:
    rows = [
        f"| {graph.file.path} | {_tensors(graph.inputs)} | {_tensors(graph.outputs)} | {graph.opset} "
        f"| {graph.parity_max_abs_error:.1e} |"
        for graph in manifest.graphs
    ]
    head = [
        "| file | inputs | outputs | opset | largest difference from the model |",
        "| --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*head, *rows]) + _row_bits(manifest)


def _row_bits(manifest: bundle_pb2.Manifest) -> str:
    dependent = [f"`{graph.file.path}`" for graph in manifest.graphs if graph.batch_dependent]
    if not dependent:
        return ""
    return f"\n\nThe last bits of a row depend on the other rows of its batch in {', '.join(dependent)}."


def _tensors(specs: Iterable[bundle_pb2.TensorSpec]) -> str:
    return ", ".join(f"`{spec.name}` [{', '.join(map(str, ('batch', *spec.shape)))}]" for spec in specs)


def _likelihood(manifest: bundle_pb2.Manifest) -> str:
    if manifest.likelihood != bundle_pb2.LIKELIHOOD_BERNOULLI:
        return ""
    return (
        "Every pixel is the probability of a coin: the model was trained on binarised images, x ~ Bernoulli(pixel).\n"
    )
