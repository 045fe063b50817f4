"""JSON schemas of KServe's kinds, made of the classes that its Python package has generated from their OpenAPI.

The classes are read and not imported, for their package imports a whole server. They tell the name and the type of
every field, not which must be there. Kubernetes's own types in them are held against its strict schemas.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from kubernetes_validate.utils import latest_version, schema_contents
from referencing import Registry, Resource

KINDS = {
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): "V1alpha1ServingRuntime",
    ("serving.kserve.io/v1beta1", "InferenceService"): "V1beta1InferenceService",
}

Schema = dict[str, Any]

_SIMPLE: dict[str, Schema] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
    "float": {"type": "number"},
    "object": {},
}
_UNKNOWN: Schema = {"not": {}}
"""A type that nothing describes: a field of it is refused, so that it does not pass unseen."""


@cache
def schema(api_version: str, kind: str) -> Draft202012Validator:
    """The schema of one of KINDS."""
    kubernetes = _kubernetes_definitions()
    tables = _tables()
    whole = {
        "properties": {"apiVersion": {"const": api_version}, "kind": {"const": kind}},
        "$ref": f"#/$defs/{KINDS[api_version, kind]}",
        "$defs": {name: _object(table, tables, kubernetes) for name, table in tables.items()},
    }
    return Draft202012Validator(whole, registry=Registry().with_resource(kubernetes["$id"], _resource(kubernetes)))


def _object(fields: dict[str, str], tables: dict[str, dict[str, str]], kubernetes: Schema) -> Schema:
    properties = {name: _of_type(kind, tables, kubernetes) for name, kind in fields.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _of_type(kind: str, tables: dict[str, dict[str, str]], kubernetes: Schema) -> Schema:
    if listed := re.fullmatch(r"list\[(.+)\]", kind):
        return {"type": "array", "items": _of_type(listed[1], tables, kubernetes)}
    if mapped := re.fullmatch(r"dict\(str, (.+)\)", kind):
        return {"type": "object", "additionalProperties": _of_type(mapped[1], tables, kubernetes)}
    if kind in tables:
        return {"$ref": f"#/$defs/{kind}"}
    ends = re.sub("^V1(?=[A-Z])", "v1.", kind)
    for name in kubernetes["$defs"]:
        if name in (f"io.k8s.api.core.{ends}", f"io.k8s.apimachinery.pkg.apis.meta.{ends}"):
            return {"$ref": f"{kubernetes['$id']}#/$defs/{name}"}
    return _SIMPLE.get(kind, _UNKNOWN)


@cache
def _tables() -> dict[str, dict[str, str]]:
    """The fields of each class and their types, by the names that they have in YAML."""
    package = find_spec("kserve")
    assert package is not None
    assert package.origin is not None
    tables = {}
    for module in Path(package.origin).parent.glob("models/v1*.py"):
        for node in ast.parse(module.read_text()).body:
            if isinstance(node, ast.ClassDef):
                said = {_name(line): line.value for line in node.body if isinstance(line, ast.Assign)}
                names = ast.literal_eval(said["attribute_map"])
                types = ast.literal_eval(said["openapi_types"])
                tables[node.name] = {names[attribute]: kind for attribute, kind in types.items()}
    return tables


def _name(line: ast.Assign) -> str:
    (target,) = line.targets
    return target.id if isinstance(target, ast.Name) else ""


def _kubernetes_definitions() -> Schema:
    version = latest_version()
    path = f"kubernetes-json-schema/v{version}-local-strict/_definitions.json"
    definitions: Schema = schema_contents(path, version)
    return definitions


def _resource(definitions: Schema) -> Resource[Any]:
    return Resource.from_contents(definitions)
