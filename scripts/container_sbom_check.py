"""Copy a CycloneDX 1.6 document from stdin to stdout if it is valid; else exit with the reason.

Run by the Python of .cache/container/tools, which has the package cyclonedx.
"""
# ruff: noqa: INP001 - a standalone program

from __future__ import annotations

import sys

from cyclonedx.schema import SchemaVersion  # type: ignore[import-not-found]
from cyclonedx.validation.json import JsonStrictValidator  # type: ignore[import-not-found]

document = sys.stdin.read()
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(document)
if error is not None:
    sys.exit(f"the SBOM is not valid: {str(error)[:500]}")
sys.stdout.write(document)
