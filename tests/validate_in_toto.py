"""Reads a file of attestations with the public packages: the bundle's envelope, its signature, the statement, the predicate.

Usage: validate_in_toto.py PUBLIC_KEY ATTESTATIONS
Needs PyPI's in-toto-attestation and securesystemslib[crypto].
"""

import base64
import json
import sys

from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.predicates.test_result.v0.test_result_pb2 import TestResult
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

# The messages refuse fields that the specification does not have.
PREDICATES = {
    "https://slsa.dev/provenance/v1": Provenance,
    "https://in-toto.io/attestation/test-result/v0.1": TestResult,
}

with open(sys.argv[1]) as file:
    key = SSlibKey("", "ecdsa", "ecdsa-sha2-nistp256", {"public": file.read()})
with open(sys.argv[2]) as file:
    bundles = [json.loads(line) for line in file]
for bundle in bundles:
    envelope = Envelope.from_dict(bundle["dsseEnvelope"])
    envelope.verify([key], 1)
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    message = json_format.ParseDict(payload, statement_pb2.Statement())
    Statement.copy_from_pb(message).validate()
    json_format.ParseDict(payload["predicate"], PREDICATES[payload["predicateType"]]())
    print(payload["predicateType"], len(payload["subject"]), "subjects")
assert bundles, "no attestation"
