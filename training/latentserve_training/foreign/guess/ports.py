"""The inputs of a foreign graph by what they may be: rows of numbers, codes, labels, and settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.guess.draft import Draft
from latentserve_training.foreign.guess.lookup import entries
from latentserve_training.foreign.setting import setting
from latentserve_training.foreign.tensor import PIXELS, signature

WHOLE = (TensorProto.INT64, TensorProto.INT32)
"""Element types of labels and codes."""


@dataclass(frozen=True)
class Ports:
    """The inputs of one graph that nothing is told of."""

    graph: ForeignGraph
    left: Mapping[str, onnx.ValueInfoProto]

    @classmethod
    def of(cls, graph: ForeignGraph, draft: Draft) -> Ports:
        """Those that are not told to be labels, noise or fixed."""
        role = graph.role
        told = {draft.value(f"{role}.label"), *(draft.value(f"{role}.inputs") or ())}
        told |= set(draft.value(f"{role}.noise") or ()) if role == "decoder" else set()
        return cls(graph, {name: value for name, value in graph.inputs.items() if name not in told})

    @property
    def rows(self) -> list[str]:
        """Numbers or bytes [batch, ...]; a single number is a setting."""
        return [name for name in self.left if self._dtype(name) in PIXELS and self._has_sides(name)]

    @property
    def codes(self) -> list[str]:
        """Whole numbers [batch, ...], more than one a row."""
        whole = [name for name in self.left if self._dtype(name) in WHOLE]
        return [name for name in whole if self._has_sides(name) and self.graph.shape(name) != (1,)]

    @property
    def labels(self) -> list[str]:
        """Whole numbers [batch], or [batch, 1]."""
        whole = [name for name in self.left if self._dtype(name) in WHOLE]
        return [name for name in whole if self._sides(name) > 0 and self.graph.shape(name) in ((), (1,))]

    def main(self, draft: Draft, key: str, found: list[str]) -> str | None:
        """Settle which of the `found` is the one that `key` names, and what the others take; None where it is open.

        Raises:
            ExportError: the input that was told is not there.
        """
        role, _, word = key.partition(".")
        name = draft.value(key)
        if name is not None:
            self.graph.input(name)
        elif len(found) == 1:
            (name,) = found
            only = "the only input" if len(self.left) == 1 else f"no other input may be the {word}"
            draft.guess(key, name, only)
        if name is not None:
            self._settle(draft, [other for other in self.left if other != name])
            return str(name)
        names = found or list(self.graph.inputs)
        which = " or ".join(setting(key, name) for name in names)
        drawn = f", are noise ({setting('decoder.noise', ['NAME'])})" if role == "decoder" else ""
        draft.ask(
            key,
            f"which input of the {role} is the {word}, {self.shown(names)}? {which}; the others then get a value "
            f"({setting(f'{role}.inputs.NAME', 0.0)}){drawn}, or take labels ({setting(f'{role}.label', 'NAME')})",
        )
        self._settle(draft, [name for name in self.left if name not in names])
        return None

    def shown(self, names: Iterable[str]) -> str:
        """The inputs with their types and shapes, for a message."""
        return " and ".join(f"{name!r} ({signature(self.graph.inputs[name])})" for name in names)

    def _settle(self, draft: Draft, others: list[str]) -> None:
        """Guess or ask for what the inputs are that are not the main one."""
        role = self.graph.role
        labels = [name for name in others if name in self.labels]
        known = role == "decoder" or draft.value("decoder.label") is not None
        if len(labels) == 1 and known and not draft.is_told(f"{role}.label"):
            others = [name for name in others if name not in labels]
            self._label(draft, labels[0])
        for name in others:
            asked = f"what does the {role}'s input {self.shown([name])} take? {self._fixed(name)} if always the same"
            if role == "decoder" and name in self.rows:
                drawn, told = setting("decoder.noise", [name]), setting("decoder.label", name)
                asked += f", {drawn} if it is drawn from N(0, 1) for every image, or {told} if it takes labels"
            draft.ask(f"{role}.inputs.{name}", asked)

    def _label(self, draft: Draft, name: str) -> None:
        role = self.graph.role
        draft.guess(f"{role}.label", name, f"{self.shown([name])} is one whole number a row, as labels are")
        if role == "encoder" or draft.value("labels") is not None:
            return
        if found := entries(self.graph.model.graph, name):
            draft.guess("labels", found, f"the table in which {name!r} is looked up has so many entries")
        else:
            asked = f"how many labels does the input {name!r} know, or what are they called?"
            draft.ask("labels", f"{asked} {setting('labels', 10)} or {setting('labels', ['cat', 'dog'])}")

    def _dtype(self, name: str) -> int:
        return int(self.left[name].type.tensor_type.elem_type)

    def _sides(self, name: str) -> int:
        """How many axes it has, the batch among them."""
        return len(self.left[name].type.tensor_type.shape.dim)

    def _has_sides(self, name: str) -> bool:
        return self._sides(name) > 1 or not self.left[name].type.tensor_type.HasField("shape")

    def _fixed(self, name: str) -> str:
        """The setting that gives the input a value."""
        role, kind = self.graph.role, helper.tensor_dtype_to_np_dtype(self._dtype(name)).kind
        zero = {"b": False, "i": 0, "u": 0}.get(kind, 0.0)
        dotted = "." in name or "=" in name
        told = setting(f"{role}.inputs", {name: zero}) if dotted else setting(f"{role}.inputs.{name}", zero)
        return f"{told}, with your value,"
