"""Bring the objects under a prefix to a folder by obstore and 16 threads, and nothing else: a floor for hydration.

Usage: python -m benchmarks.bare_obstore BUCKET PREFIX FOLDER. A folder that holds anything is left as it is, after the
listing. The rest is in the environment, as for the AWS chain.
"""

from __future__ import annotations

import gc
import os
import sys
import threading

from obstore.store import S3Store


def main(bucket: str, prefix: str, folder: str) -> None:
    """List, read, write."""
    config = {"aws_endpoint_url_s3": os.environ["AWS_ENDPOINT_URL_S3"], "virtual_hosted_style_request": False}
    store = S3Store(bucket, config=config, client_options={"allow_http": True})  # type: ignore[arg-type]  # its stubs name no options by variables' names
    objects = store.list_with_delimiter(prefix)["objects"]
    if os.listdir(folder):  # noqa: PTH208 - a floor
        return
    todo = iter([meta["path"] for meta in objects])

    def read() -> None:
        for key in todo:
            data = bytes(store.get(key).bytes())
            with open(f"{folder}/{key.rpartition('/')[2]}", "xb", buffering=0) as file:  # noqa: PTH123 - a floor
                file.write(data)

    threads = [threading.Thread(target=read) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    gc.disable()
    main(*sys.argv[1:])
    os._exit(0)
