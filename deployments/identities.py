"""Who may do what in the buckets: the policies under ``policies/``, filled in for real buckets.

One identity per job, with the prefixes of docs/operations.md and nothing else. In the root only ``gc`` may delete (with
``--results-older-than`` it is ``retention``), and ``forget``; ``backup`` may in its own place.
``python -m deployments.identities nightly --root s3://bucket/data --inbox s3://inbox`` prints a policy to give to the
provider. Knows no provider: the text is AWS's, which other stores read too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "policies"
IDENTITIES = (
    "ingest", "ground", "train", "nightly", "deliver", "gc", "retention", "forget", "rekey", "reidentify", "backup",
    "restore", "reviewer", "auditor",
)  # fmt: skip
BUCKET = "bucket"
"""The policy of a bucket itself: no connection without TLS, nothing unencrypted, an audit that stays."""
PLACES = ("root", "source", "inbox", "identified", "backup")


def policy(
    name: str,
    places: Mapping[str, str],
    *,
    kms_key: str = "",
    identified_kms_key: str = "",
    encryption: str = "aws:kms",
) -> dict[str, Any]:
    """Return a policy for given places.

    Args:
        name: One of ``IDENTITIES``, or ``BUCKET``.
        places: Place (``root``, ``inbox`` …) to its URL, ``s3://bucket/prefix``; those that the policy speaks of.
        kms_key: ARN of the key; without one, what is said of a key is left out.
        identified_kms_key: The same of the identified zone's own key.
        encryption: What the bucket insists on, ``aws:kms`` or ``AES256``.

    Raises:
        ValueError: A place that the policy speaks of is not given, or is no S3 URL.
    """
    keys = {"kms_key": kms_key, "identified_kms_key": identified_kms_key}
    values = {**keys, "encryption": encryption}
    for place, url in places.items():
        if not url.startswith("s3://"):
            raise ValueError(f"{place} must be s3://bucket or s3://bucket/prefix")
        whole = url.removeprefix("s3://").strip("/")
        bucket, _, prefix = whole.partition("/")
        values |= {place: whole, f"{place}_bucket": bucket, f"{place}_prefix": f"{prefix}/" if prefix else ""}
    statements = json.loads((FOLDER / f"{name}.json").read_text())["Statement"]
    left_out = [f"{{{key}}}" for key, value in keys.items() if not value]
    kept = [each for each in statements if not any(key in json.dumps(each) for key in left_out)]
    text = json.dumps({"Version": "2012-10-17", "Statement": kept})
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", value)
    missing = [place for place in PLACES if f"{{{place}" in text]
    if missing:
        raise ValueError(f"the policy of {name} needs {', '.join(missing)}")
    filled: dict[str, Any] = json.loads(text)
    return filled


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a policy."""
    parser = argparse.ArgumentParser(prog="python -m deployments.identities", description=main.__doc__)
    parser.add_argument("name", choices=(*IDENTITIES, BUCKET))
    for place in PLACES:
        parser.add_argument(f"--{place}", default="", help="s3://bucket/prefix")
    parser.add_argument("--kms-key", default="", help="ARN of the key")
    parser.add_argument("--identified-kms-key", default="", help="ARN of the identified zone's own key")
    parser.add_argument("--encryption", default="aws:kms", choices=("aws:kms", "AES256"))
    options = vars(parser.parse_args(arguments))
    places = {place: options[place] for place in PLACES if options[place]}
    try:
        keys = {name: options[name] for name in ("kms_key", "identified_kms_key")}
        found = policy(options["name"], places, **keys, encryption=options["encryption"])
    except ValueError as error:
        parser.error(str(error))
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
