"""What a custom resource definition says of a file: what its schema refuses, and which fields it has not. Knows no Kubernetes.

The API server drops fields that the schema has not, without a word: a misspelt one looks set, and is not.
"""

from pathlib import Path
from typing import Any

import jsonschema
import yaml

FIXTURES = Path(__file__).parents[2] / "shared" / "fixtures" / "kuberay"


def schema_of(kind: str) -> dict[str, Any]:
    """The schema of the version v1 of RayJob or RayCluster."""
    definition = yaml.load((FIXTURES / f"ray.io_{kind.lower()}s.yaml").read_text(), yaml.CSafeLoader)
    version = next(own for own in definition["spec"]["versions"] if own["name"] == "v1")
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def problems(resource: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """Everything that is wrong with a resource, one line each; none: []."""
    validator = jsonschema.Draft7Validator(schema)
    wrong = [f"{'.'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(resource)]
    return wrong + list(_unknown(resource, schema, ""))


def _unknown(value: Any, schema: dict[str, Any], path: str) -> list[str]:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return []
    if isinstance(value, list):
        return [line for i, own in enumerate(value) for line in _unknown(own, schema.get("items", {}), f"{path}[{i}]")]
    if not isinstance(value, dict):
        return []
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    if not path or path == ".metadata":  # what every resource has is in no definition
        known = {"apiVersion": {}, "kind": {}, "name": {}, "annotations": {"additionalProperties": {}}, **known}
    found = []
    for name, own in value.items():
        where = f"{path}.{name}"
        if name in known:
            found += _unknown(own, known[name], where)
        elif isinstance(others, dict):
            found += _unknown(own, others, where)
        else:
            found.append(f"{where}: no such field")
    return found
