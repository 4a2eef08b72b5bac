"""Log users in to the demo site, and store their profiles and an API key in a folder or in S3.

Usage: seed.py [FOLDER]. Without a folder it uploads to S3. Reads SITE_URL, API_KEY, USERS (a JSON object of names and
passwords; default two of the demo's users), AWS_* and AWS_ENDPOINT_URL_S3. API_KEY_FILE and AWS_SECRET_ACCESS_KEY_FILE
name files with these values instead. Waits up to WAIT_S for the site and the S3 server, and prints one line.
"""
# ruff: noqa: INP001 - a program of the trial image, not part of a package

from __future__ import annotations

import http.client
import http.cookies
import json
import os
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

BUCKET = "profiles"
USERS = '{"ada": "lovelace", "grace": "hopper"}'
WAIT_S = 60.0
WEEK_S = 7 * 24 * 3600


def main(argv: list[str]) -> int:
    """Seed once; return the exit code."""
    for name in ("API_KEY", "AWS_SECRET_ACCESS_KEY"):
        if file := os.environ.get(f"{name}_FILE"):
            os.environ[name] = Path(file).read_text(encoding="utf-8").strip()
    site = urllib.parse.urlsplit(os.environ["SITE_URL"])
    users: dict[str, str] = json.loads(os.environ.get("USERS", USERS))
    profiles = {user: storage_state(site, user, password) for user, password in users.items()}
    files = {f"active/{user}.json": json.dumps(profile) for user, profile in profiles.items()}
    files["key.txt"] = f"{os.environ['API_KEY']} role=operate\n"
    where = into_folder(Path(argv[0]), files) if argv else into_s3(files)
    print(f"seed: {len(profiles)} profiles and an API key are in {where}")  # noqa: T201 - the program's result
    return 0


def into_folder(folder: Path, files: dict[str, str]) -> str:
    """Write the files with mode 0600; return the folder."""
    os.umask(0o077)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return str(folder)


def into_s3(files: dict[str, str]) -> str:
    """Upload the files; return the URL of the bucket."""
    client = bucket()
    for name, content in files.items():
        client.put_object(Bucket=BUCKET, Key=name, Body=content.encode())
    return f"s3://{BUCKET}/"


def storage_state(site: urllib.parse.SplitResult, user: str, password: str) -> dict[str, Any]:
    """Log a user in; return the storage state that Playwright would save. Raise OSError if the site is unreachable."""
    host, port = site.hostname or "", site.port or 80
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return {"cookies": [cookie(host, set_cookie(host, port, user, password))], "origins": []}
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def set_cookie(host: str, port: int, user: str, password: str) -> str:
    """Log a user in and return the Set-Cookie header."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    form = urllib.parse.urlencode({"username": user, "password": password})
    connection.request("POST", "/login", form, {"content-type": "application/x-www-form-urlencoded"})
    header = connection.getresponse().getheader("set-cookie")
    if header is None:
        sys.exit(f"seed: the site did not log {user} in")
    return header


def cookie(host: str, header: str) -> dict[str, Any]:
    """Return one entry of a storage state's `cookies`."""
    morsel = next(iter(http.cookies.SimpleCookie(header).values()))
    return {
        "name": morsel.key,
        "value": morsel.value,
        "domain": host,
        "path": "/",
        "expires": time.time() + WEEK_S,
        "httpOnly": True,
        "secure": False,
        "sameSite": "Lax",
    }


def bucket() -> Any:
    """Return an S3 client once the server responds; create the bucket if needed."""
    client = boto3.session.Session().client("s3")
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            if BUCKET not in [entry["Name"] for entry in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=BUCKET)
        except (BotoCoreError, ClientError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return client


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
