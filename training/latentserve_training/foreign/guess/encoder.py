"""What a foreign encoder is, as far as its graph says: its tensors, and with them the kind of model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.graph_description import SPREADS
from latentserve_training.foreign.guess.decoder import latent_sides, needed, output_names, shown_outputs
from latentserve_training.foreign.guess.draft import Draft
from latentserve_training.foreign.guess.ports import WHOLE, Ports
from latentserve_training.foreign.guess.posterior_names import is_mean, is_moments, spread_of
from latentserve_training.foreign.setting import setting

_TENSORS = ("mean", "latent", "codes", "moments.tensor", *SPREADS)
_OF_A_VAE = ("mean", "moments", *SPREADS)
_AS = ", ".join(f"encoder.{spread}" for spread in SPREADS[1:-1]) + f" or encoder.{SPREADS[-1]}"


@dataclass(frozen=True)
class _Outputs:
    """The outputs of an encoder beside the decoder's latents."""

    graph: ForeignGraph
    sides: tuple[int, ...] | None
    """The shape of a latent, where it is known."""

    @cached_property
    def names(self) -> list[str]:
        """All of them."""
        return output_names(self.graph)

    @cached_property
    def single(self) -> list[str]:
        """Those that may be of a latent's size."""
        return [name for name in self.names if self._may_have(name, 1)]

    @cached_property
    def double(self) -> list[str]:
        """Those that may be of twice its size."""
        return [name for name in self.names if self._may_have(name, 2)]

    @property
    def codes(self) -> list[str]:
        """Those of whole numbers, and of its size."""
        return [name for name in self.single if self.graph.inferred[name].type.tensor_type.elem_type in WHOLE]

    def halved_axis(self, name: str) -> int | None:
        """The axis along which the tensor's halves have a latent's shape; None where it is not known."""
        shape = self.graph.shape(name)
        if shape is None or self.sides is None:
            return None
        halves = [(*shape[:place], side // 2, *shape[place + 1 :]) for place, side in enumerate(shape)]
        even = [side % 2 == 0 for side in shape]
        fits = [place for place, half in enumerate(halves) if even[place] and _long(half) == _long(self.sides)]
        return 1 + fits[0] if len(fits) == 1 else None

    def _may_have(self, name: str, times: int) -> bool:
        shape = self.graph.shape(name)
        return shape is None or self.sides is None or math.prod(shape) == times * math.prod(self.sides)


def guess_encoder(draft: Draft, graph: ForeignGraph) -> ForeignGraph:
    """Settle the kind and the encoder's tensors; returns the part of the graph that they need.

    Raises:
        ExportError: a tensor that was told is not there.
    """
    outputs = _Outputs(graph, latent_sides(draft))
    _guess_kind(draft, outputs)
    kind = draft.value("kind")
    if kind == "vae":
        _guess_posterior(draft, outputs)
    elif kind == "vq":
        _guess_point(draft, outputs, "encoder.codes", outputs.codes)
    elif kind == "autoencoder":
        _guess_point(draft, outputs, "encoder.latent", outputs.single)
    named = [graph.output(name) for option in _TENSORS if (name := draft.part(f"encoder.{option}")) is not None]
    part = needed(graph, named or outputs.names)
    ports = Ports.of(part, draft)
    ports.main(draft, "encoder.image", ports.rows)
    return part


def _long(shape: Sequence[int]) -> list[int]:
    return [side for side in shape if side > 1]


def _guess_kind(draft: Draft, outputs: _Outputs) -> None:
    names = outputs.names
    told = next((option for option in _OF_A_VAE if draft.is_told(f"encoder.{option}")), None)
    named = [name for name in names if is_mean(name, names) or is_moments(name) or spread_of(name)]
    if draft.is_open("codes") or draft.value("codes") is not None:
        draft.guess("kind", "vq", "the decoder takes whole numbers, as codes are")
    elif told is not None:
        draft.guess("kind", "vae", f"encoder.{told} is told")
    elif draft.is_told("encoder.latent"):
        draft.guess("kind", "autoencoder", "encoder.latent is told")
    elif len(names) > 1 and (named or len(outputs.single) > 1):
        reason = f"the encoder gives {named[0]!r}" if named else "the encoder gives two tensors of the latent's size"
        draft.guess("kind", "vae", reason)
    elif len(names) == 1 and not outputs.single and outputs.double:
        draft.guess("kind", "vae", f"the encoder's output {names[0]!r} is twice the latent's size, as mean and spread")
    elif len(names) == 1 and outputs.single and not outputs.double and not named:
        draft.guess("kind", "autoencoder", f"the encoder gives {names[0]!r} of the latent's size, and no spread")
    else:
        _ask_kind(draft, outputs)


def _ask_kind(draft: Draft, outputs: _Outputs) -> None:
    shown = shown_outputs(outputs.graph, outputs.names)
    first = outputs.names[0]
    draft.ask(
        "kind",
        f"the encoder gives {shown}; what is the model? {setting('encoder.latent', first)} if that is an autoencoder's "
        f"latent, {setting('encoder.moments', first)} if it holds a vae's mean and log-variance; where a vae's encoder "
        "gives its mean alone, export the spread, too",
    )


def _guess_point(draft: Draft, outputs: _Outputs, key: str, found: list[str]) -> None:
    """Settle the output that is a latent, or codes."""
    word = key.partition(".")[2]
    if len(found) == 1:
        draft.guess(
            key, found[0], f"no other output may be the {word}" if len(outputs.names) > 1 else "the only output"
        )
        return
    names = found or outputs.names
    which = " or ".join(setting(key, name) for name in names)
    draft.ask(key, f"which output of the encoder is the {word}, {shown_outputs(outputs.graph, names)}? {which}")


def _guess_posterior(draft: Draft, outputs: _Outputs) -> None:
    """Settle which outputs are a posterior's mean and spread, or both."""
    names = outputs.names
    told = [option for option in _OF_A_VAE if draft.is_told(f"encoder.{option}")]
    apart = any(is_mean(name, names) for name in names) and any(spread_of(name) for name in names)
    moments = [name for name in outputs.double if is_moments(name)]
    if "moments" in told:
        _guess_axis(draft, outputs, draft.part("encoder.moments.tensor") or names[0])
    elif not told and len(moments) == 1 and not apart:
        _guess_axis(draft, outputs, moments[0])
    elif not told and len(names) == 1:
        draft.ask(
            "encoder.moments",
            f"how does {shown_outputs(outputs.graph, names)} hold the posterior's mean and spread? "
            f"{setting('encoder.moments', names[0])} if its first half is the mean and the second the log-variance; "
            f"otherwise also {setting('encoder.moments.order', ['log_variance', 'mean'])}",
        )
    else:
        _guess_mean(draft, outputs)
        if not any(option in SPREADS for option in told):
            _guess_spread(draft, outputs)


def _guess_mean(draft: Draft, outputs: _Outputs) -> None:
    means = [name for name in outputs.single if is_mean(name, outputs.names)]
    if len(means) == 1:
        draft.guess("encoder.mean", means[0], "its name says so")
        return
    names = outputs.single or outputs.names
    which = " or ".join(setting("encoder.mean", name) for name in names)
    shown = shown_outputs(outputs.graph, names)
    draft.ask("encoder.mean", f"which output of the encoder is the posterior's mean, {shown}? {which}")


def _guess_spread(draft: Draft, outputs: _Outputs) -> None:
    spreads = [(spread, name) for name in outputs.single if (spread := spread_of(name)) is not None]
    if len(spreads) == 1:
        spread, name = spreads[0]
        draft.guess(f"encoder.{spread}", name, "its name says so")
        return
    mean = draft.value("encoder.mean")
    others = [name for name in outputs.single if name != mean] or outputs.names
    which = " or ".join(setting("encoder.log_variance", name) for name in others)
    draft.ask(
        "encoder.log_variance",
        f"which output tells how wide the posterior is, and as what? {which} if it is the logarithm of the variance, "
        f"else {_AS}",
    )


def _guess_axis(draft: Draft, outputs: _Outputs, name: str) -> None:
    """Settle the halves of the tensor that holds mean and log-variance."""
    axis = outputs.halved_axis(name) if name in outputs.names else None
    if axis is not None:
        halves = {"tensor": name, "axis": axis}
        reason = f"twice the latent's size along axis {axis}; the mean is the first half unless `order` says otherwise"
        draft.guess("encoder.moments", halves, reason)
        return
    if draft.part("encoder.moments.tensor") is None:
        draft.guess("encoder.moments", {"tensor": name}, "its name says so")
    one, last = (setting("encoder.moments.axis", place) for place in (1, -1))
    draft.ask("encoder.moments.axis", f"along which axis has {name!r} mean and spread as halves? {one} or {last}")
