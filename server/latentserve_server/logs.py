"""Log lines as JSON objects, each with the request it belongs to. The only importer of pythonjsonlogger."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The request that the running task answers; empty outside one."""


class _RequestId(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if current := request_id.get():
            record.request_id = current
        return True


def configure_logging(level: str, style: Literal["json", "text"]) -> None:
    """Send this process's log lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_RequestId())
    if style == "json":
        fields = "{asctime}{levelname}{name}{message}"
        rename = {"asctime": "time", "levelname": "level", "name": "logger"}
        formatter: logging.Formatter = JsonFormatter(
            fields, style="{", rename_fields=rename, datefmt="%Y-%m-%dT%H:%M:%S%z"
        )
    else:
        formatter = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
