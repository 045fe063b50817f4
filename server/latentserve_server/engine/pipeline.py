"""Encoder and decoder chained behind one graph's interface."""

from __future__ import annotations

from collections.abc import Sequence

from latentserve_server.engine.cancellation import Cancellation
from latentserve_server.engine.session import Engine
from latentserve_server.engine.tensor_spec import Arrays


class ReconstructionPipeline:
    """From images to their posteriors, and on to what the decoder makes of the posterior means.

    Its inputs are the encoder's, its outputs those of both. Where runs of the size are bound, the encoder writes the
    means where the decoder reads them, on the device.
    """

    def __init__(self, encoder: Engine, decoder: Engine) -> None:
        """Both belong to one thread; where a size is bound, the decoder's latents share the buffer of the means."""
        self._encoder = encoder
        self._decoder = decoder
        self._encodes = {spec.name for spec in encoder.outputs}
        self._shared = {spec.name for spec in encoder.inputs} & {spec.name for spec in decoder.inputs}

    def run(self, inputs: Arrays, outputs: Sequence[str], cancellation: Cancellation) -> Arrays:
        """The named outputs for the rows of inputs.

        Raises:
            EngineFailure: one of the graphs did not run, or was cancelled.
        """
        rows = len(next(iter(inputs.values())))
        mean = self._encoder.resident("mean", rows)
        wanted = {name for name in outputs if name in self._encodes} | ({"mean"} if mean is None else set())
        posterior = self._encoder.run(inputs, sorted(wanted), cancellation)
        shared = {name: inputs[name] for name in self._shared}
        decoded = [name for name in outputs if name not in self._encodes]
        latent = posterior["mean"] if mean is None else mean
        return posterior | self._decoder.run({"latent": latent, **shared}, decoded, cancellation)
