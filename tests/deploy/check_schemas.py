"""Says what is wrong with Kubernetes documents, unknown fields and all. Runs in the environment of requirements.txt.

check_schemas.py < documents.json > problems.json

In goes a list of documents, out comes a list with the problems of each. Kubernetes's own kinds are held against its
schemas of the last three versions, the others against what packages on PyPI have made of the CRDs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import kserve_schemas
import kubernetes_validate
import pydantic
from cloudcoil.models.cert_manager import v1 as cert_manager
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as prometheus_operator
from jsonschema import Draft202012Validator
from kubernetes_validate.utils import all_versions

OPERATORS: dict[tuple[str, str], type[pydantic.BaseModel]] = {
    ("keda.sh/v1alpha1", "ScaledObject"): keda.ScaledObject,
    ("cert-manager.io/v1", "Certificate"): cert_manager.Certificate,
    ("monitoring.coreos.com/v1", "PodMonitor"): prometheus_operator.PodMonitor,
}
LAST_THREE = list(dict.fromkeys(all_versions()))[-3:]


def problems(document: dict[str, Any]) -> list[str]:
    """What is wrong with a document."""
    kind = document["apiVersion"], document["kind"]
    if kind in OPERATORS:
        return list(_violations(_operator_schema(kind), document))
    if kind in kserve_schemas.KINDS:
        return list(_violations(kserve_schemas.schema(*kind), document))
    return [problem for version in LAST_THREE for problem in _kubernetes_problems(document, version)]


def _kubernetes_problems(document: dict[str, Any], version: str) -> Iterator[str]:
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"Kubernetes {version}: {_place(error.absolute_path)}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield error.message


def _violations(validator: Draft202012Validator, document: dict[str, Any]) -> Iterator[str]:
    for error in validator.iter_errors(document):
        yield f"{_place(error.absolute_path)}: {error.message}"


def _place(path: Any) -> str:
    return "/".join(map(str, path))


@cache
def _operator_schema(kind: tuple[str, str]) -> Draft202012Validator:
    return Draft202012Validator(_strict(OPERATORS[kind].model_json_schema(by_alias=True)))


def _strict(schema: Any) -> Any:
    """The schema, with no fields but those that it names: pydantic's models would pass over others."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if "properties" in schema else {}
    return closed | {name: _strict(part) for name, part in schema.items()}


def main(check: Callable[[dict[str, Any]], list[str]] = problems) -> None:
    json.dump([check(document) for document in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
