"""Labels as they are written on the command line: numbers, or the names that the model's manifest gives them."""

from __future__ import annotations

from latentserve_client.models import ModelInfo


def read_labels(text: str | None, info: ModelInfo) -> list[int] | None:
    """The labels that the text has, separated by commas; None for None. A number is always the label itself.

    Raises:
        RequestError: a word is neither a number nor the name of a label of the model.
    """
    if text is None:
        return None
    if text in info.label_names:  # which may have a comma in it
        return [info.label(text)]
    return [int(word) if word.isascii() and word.isdecimal() else info.label(word) for word in text.split(",")]
