"""Identities of a SeaweedFS server with the shipped policies, made through its IAM interface as on a provider's."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
from botocore.exceptions import ClientError

from crrg.config.base import StorageSettings
from crrg.storage import Storage
from deployments.identities import policy
from deployments.services import Service, start_object_store

ADMIN = ("guard-admin-key", "guard-admin-secret")
BUCKET = "guarded"
PLACES = {
    "root": f"s3://{BUCKET}/data",
    "source": f"s3://{BUCKET}/archive",
    "inbox": f"s3://{BUCKET}/inbox",
    "identified": f"s3://{BUCKET}/identified",
    "backup": f"s3://{BUCKET}/backup",
}
RESTORED = {**PLACES, "root": f"s3://{BUCKET}/restored"}
"""A backup is restored beside the root that it was made of."""
NOT_UNDERSTOOD = {"s3:ListBucketMultipartUploads"}
"""Actions that this server refuses in the policy of an identity."""
SETTLE_S = 20.0
_LISTED = {
    "ingest": "data/datasets",
    "ground": "data/datasets",
    "train": "data/datasets",
    "restore": "restored/results",
}


@dataclass(frozen=True)
class GuardedStore:
    """A running store with one identity per shipped policy.

    Attributes:
        service: The server.
        keys: Identity to key id and secret; ``admin`` may do everything.
    """

    service: Service
    keys: Mapping[str, tuple[str, str]]

    def settings(self, identity: str, **changes: str) -> StorageSettings:
        """Return how an identity reaches the store."""
        key, secret = self.keys[identity]
        return StorageSettings.model_validate(
            {"endpoint_url": self.service.url, "access_key_id": key, "secret_access_key": secret, **changes}
        )

    def storage(self, identity: str, place: str = "root", **changes: str) -> Storage:
        """Return a place as an identity sees it."""
        return Storage(places_of(identity)[place], self.settings(identity, **changes))

    def client(self, identity: str, service: str = "s3") -> Any:
        """Return a plain client of the server."""
        return _client(self.service.url, *self.keys[identity], service)


@functools.cache
def _client(url: str, key: str, secret: str, service: str) -> Any:
    """Make a client once; reading what a service can do takes longer than asking it."""
    return botocore.session.get_session().create_client(
        service, endpoint_url=url, aws_access_key_id=key, aws_secret_access_key=secret, region_name="us-east-1"
    )


def start_guarded_store(folder: Path, identities: tuple[str, ...]) -> GuardedStore:
    """Start a server, give each identity the policy that is shipped for it, and wait until all of them hold."""
    service = start_object_store(folder, access_key=ADMIN[0], secret_key=ADMIN[1], bucket=BUCKET, more_identities=True)
    try:
        keys = {"admin": ADMIN}
        iam = GuardedStore(service, keys).client("admin", "iam")
        for name in identities:
            iam.create_user(UserName=name)
            made = iam.create_access_key(UserName=name)["AccessKey"]
            iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=json.dumps(_understood(name)))
            keys[name] = (made["AccessKeyId"], made["SecretAccessKey"])
        store = GuardedStore(service, keys)
        deadline_s = time.monotonic() + SETTLE_S
        for name in identities:
            while not may(store, name, "list", _LISTED.get(name, "data/results")):
                if time.monotonic() > deadline_s:
                    raise RuntimeError(f"the policy of {name} does not hold after {SETTLE_S:.0f} s")
                time.sleep(0.2)
    except BaseException:
        service.stop(0)
        raise
    return store


def _understood(identity: str) -> dict[str, Any]:
    """Return an identity's policy without the actions that this server takes no policy for."""
    document = policy(identity, places_of(identity))
    kept = [
        {**each, "Action": [action for action in each["Action"] if action not in NOT_UNDERSTOOD]}
        for each in document["Statement"]
    ]
    return {**document, "Statement": [each for each in kept if each["Action"]]}


def places_of(identity: str) -> Mapping[str, str]:
    """Return the places that an identity's policy is filled in for."""
    return RESTORED if identity == "restore" else PLACES


def may(store: GuardedStore, identity: str, action: str, folder: str) -> bool:
    """Return whether the server lets an identity get, list, put or delete under a folder of the bucket."""
    client, key = store.client(identity), f"{folder}/probe"
    try:
        if action == "list":
            client.list_objects_v2(Bucket=BUCKET, Prefix=f"{folder}/", MaxKeys=1)
        elif action == "get":
            client.head_object(Bucket=BUCKET, Key=key)
        elif action == "put":
            client.put_object(Bucket=BUCKET, Key=key, Body=b"probe")
        else:
            client.delete_object(Bucket=BUCKET, Key=key)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status not in (403, 404):
            raise
        return bool(status == 404)
    return True
