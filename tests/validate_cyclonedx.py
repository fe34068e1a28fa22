#!/usr/bin/env python3
"""Says whether a file (or standard input) is a bill of materials of CycloneDX 1.6 to the letter, with the format's own validator.

Needs PyPI's cyclonedx-python-lib[json-validation].
"""

import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = open(sys.argv[1], encoding="utf-8").read() if len(sys.argv) > 1 else sys.stdin.read()
wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
print("valid" if wrong is None else f"not valid: {wrong!r}")
