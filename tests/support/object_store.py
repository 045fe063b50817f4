"""An S3 service of this machine, moto's, whose bucket changes as people change theirs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from model_shelf import write
from moto.server import ThreadedMotoServer

BUCKET, PREFIX = "models", "team/one"


class ObjectStore:
    """A bucket with the versions of the model "vae" under a prefix; bundles are written in `scratch` first."""

    def __init__(self, scratch: Path) -> None:
        self.url = f"s3://{BUCKET}/{PREFIX}"
        self._scratch = scratch
        self._numbers = itertools.count()
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        self._port = self._server.get_host_and_port()[1]
        self._client = self._connect("s3")
        self._iam: Any = None
        self._user = f"server-{self._port}"
        self.check_keys(are_checked=False)  # moto keeps this in this process, too
        for place in self._client.list_buckets()["Buckets"]:  # moto keeps its buckets in this process
            self._remove_all(place["Name"], "")
        self._client.create_bucket(Bucket=BUCKET)

    @property
    def variables(self) -> Mapping[str, str]:
        """What a process needs in its environment to reach the store."""
        return {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self._port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def publish(self, version: int, seed: int, *, broken: bool = False) -> None:
        """Upload the bundle of a seed, its manifest last; a broken one has a damaged decoder."""
        bundle = write(self._scratch / str(next(self._numbers)), seed, broken=broken)
        for file in sorted(bundle.iterdir(), key=lambda file: file.name == "manifest.json"):
            self.put(f"vae/{version}/{file.name}", file.read_bytes())

    def put(self, path: str, data: bytes) -> None:
        """Upload one object."""
        self._client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{path}", Body=data)

    def get(self, path: str) -> bytes:
        """The bytes of an object."""
        return bytes(self._client.get_object(Bucket=BUCKET, Key=f"{PREFIX}/{path}")["Body"].read())

    def remove(self, path: str) -> None:
        """Delete every object below a path."""
        self._remove_all(BUCKET, f"{PREFIX}/{path}")

    def cut_off(self) -> None:
        """Let every connection be refused."""
        self._server.stop()

    def reconnect(self) -> None:
        """Answer again, at the same address."""
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port, verbose=False)
        self._server.start()

    def issue_key(self) -> tuple[str, str]:
        """The id and the secret of a key that may do everything."""
        if self._iam is None:
            self._iam = self._connect("iam")
            self._iam.create_user(UserName=self._user)
            everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
            policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
            self._iam.put_user_policy(UserName=self._user, PolicyName="all", PolicyDocument=policy)
        key = self._iam.create_access_key(UserName=self._user)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def check_keys(self, *, are_checked: bool) -> None:
        """Let in those alone who have a key that was issued and not revoked, or else everybody."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=10)
        connection.request("POST", "/moto-api/reset-auth", b"0" if are_checked else b"inf")
        assert connection.getresponse().status == 200
        connection.close()

    def revoke_key(self, key: str) -> None:
        """Let nobody in with the key any more, once keys are checked."""
        self._iam.delete_access_key(UserName=self._user, AccessKeyId=key)

    def close(self) -> None:
        """Stop the service."""
        for client in filter(None, (self._client, self._iam)):
            client.close()
        self._server.stop()

    def _connect(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.variables["AWS_ENDPOINT_URL_S3"],
            aws_access_key_id="key",
            aws_secret_access_key="secret",  # noqa: S106
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 1}),
        )

    def _remove_all(self, bucket: str, prefix: str) -> None:
        for item in self._client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", []):
            self._client.delete_object(Bucket=bucket, Key=item["Key"])
