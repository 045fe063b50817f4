"""The formatter of --help: each option's own words, its default, and whether it is required."""

from __future__ import annotations

from argparse import SUPPRESS, Action

from jsonargparse import DefaultHelpFormatter

_REWORDED = {
    "Path to a configuration file.": "YAML file of the options in this section.",
    "Print version and exit.": "Print the version and exit.",
    "Print the configuration after applying all other arguments and exit.": (
        "Print the configuration that all other options amount to, and exit; with =skip_default, only what differs "
        "from the defaults."
    ),
}
"""The beginnings of jsonargparse's own descriptions, and ours in their place."""


class HelpFormatter(DefaultHelpFormatter):
    """jsonargparse's formatter, without Python's types and without defaults that stand for nothing."""

    def _get_help_string(self, action: Action) -> str:
        if action.dest == "help":
            return super()._get_help_string(action)
        text = action.help or ""
        text = next((ours for theirs, ours in _REWORDED.items() if text.startswith(theirs)), text)
        if note := _note(action, text):
            return f"{text.removesuffix('.')} ({note})."
        return text


def _note(action: Action, text: str) -> str:
    """What to add to the description of an option: that it is required, or its default unless `text` says it."""
    if not action.option_strings:
        return ""
    if action.required:
        return "required"
    default = action.default
    if default is None or default is False or default in ("", SUPPRESS, []) or "(default: " in text:
        return ""
    return f"default: {'true' if default is True else default}"
