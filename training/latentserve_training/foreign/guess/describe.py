"""A description that ONNX files give of themselves: told as YAML, with its open questions, and read as a file is."""

from __future__ import annotations

from collections.abc import Callable

import yaml
from jsonargparse import ArgumentError

from latentserve_training.errors import ConfigError
from latentserve_training.foreign.description_file import describe
from latentserve_training.foreign.guess.description_text import order_of, text_of
from latentserve_training.foreign.guess.draft import Draft
from latentserve_training.foreign.guess.graphs import guess
from latentserve_training.foreign.request import DescriptionRequest, ImportRequest
from latentserve_training.foreign.setting import OPTION, looked_up, merged


def describe_graphs(
    request: DescriptionRequest, say: Callable[[str], None], tell: Callable[[str], None], ask: Callable[[str], None]
) -> ImportRequest | None:
    """The import of the files as they are described; None where they are only to be described.

    A description that is all that is wanted is for `say`, another one for `tell`; `ask` hears each question.

    Raises:
        ExportError: a file is no ONNX, or has no such tensor as was told.
        ArgumentError: questions are open, or what was told does not go together.
    """
    draft = Draft.of(request.stated, request.told)
    guess(draft, request.decoder, request.encoder)
    text = text_of(draft)
    if request.options is None:
        say(text)
    if draft.questions:
        for question in sorted(draft.questions.values(), key=lambda one: order_of(one.key)):
            ask(f"{question.key}: {question.sentence}")
        count = len(draft.questions)
        open_ = "1 question is open; answer it" if count == 1 else f"{count} questions are open; answer them"
        elsewhere = "" if request.stated else ", or in a description, which --describe-only begins"
        raise ArgumentError(None, f"{open_} with {OPTION}{elsewhere}")
    try:
        content = merged(yaml.safe_load(text), request.places)
        description = describe(content, lambda option: _origin(request, option), str(request.source))
    except ConfigError as error:
        raise ArgumentError(None, str(error)) from error
    if request.options is not None:
        tell(text)
    return request.described(description)


def _origin(request: DescriptionRequest, option: str) -> str:
    return OPTION if looked_up(request.told, option) is not None else str(request.source)
