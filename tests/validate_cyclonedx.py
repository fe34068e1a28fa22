#!/usr/bin/env python3
"""Says of each file whether it is a bill of materials of CycloneDX 1.6 to the letter, with the format's own validator.

Needs PyPI's cyclonedx-python-lib[json-validation].
"""

import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

validator = JsonStrictValidator(SchemaVersion.V1_6)
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        wrong = validator.validate_str(file.read())
    print("valid" if wrong is None else f"not valid: {wrong!r}".replace("\n", " "))
