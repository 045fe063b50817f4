"""An S3 service of this machine, moto's, whose bucket changes as people change theirs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
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
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=self.variables["AWS_ENDPOINT_URL_S3"],
            aws_access_key_id="key",
            aws_secret_access_key="secret",  # noqa: S106
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 1}),
        )
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

    def close(self) -> None:
        """Stop the service."""
        self._client.close()
        self._server.stop()

    def _remove_all(self, bucket: str, prefix: str) -> None:
        for item in self._client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", []):
            self._client.delete_object(Bucket=bucket, Key=item["Key"])
