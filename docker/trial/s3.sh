#!/bin/sh
# An S3 server for trials and tests on port 8333, with an admin identity and one that may only read the bucket `profiles`.
# Their secret keys are in ADMIN_SECRET and READER_SECRET, or in the files that these names with _FILE name.
# With TLS_CERT and TLS_KEY (PEM files) it serves HTTPS.
set -eu
ADMIN_SECRET=${ADMIN_SECRET:-$(cat "${ADMIN_SECRET_FILE:?}")}
READER_SECRET=${READER_SECRET:-$(cat "${READER_SECRET_FILE:?}")}
mkdir -p /tmp/s3
cat >/tmp/s3.json <<JSON
{"identities": [
  {"name": "admin", "credentials": [{"accessKey": "ADMIN", "secretKey": "$ADMIN_SECRET"}],
   "actions": ["Admin", "Read", "List", "Write"]},
  {"name": "reader", "credentials": [{"accessKey": "READER", "secretKey": "$READER_SECRET"}],
   "actions": ["Read:profiles", "List:profiles"]}
]}
JSON
exec weed -logtostderr=true mini -dir=/tmp/s3 -ip=127.0.0.1 -ip.bind=0.0.0.0 -master.telemetry=false -webdav=false \
    -admin.ui=false -s3.port=8333 -s3.port.iceberg=0 -s3.port.lance=0 -s3.config=/tmp/s3.json \
    ${TLS_CERT:+"-s3.cert.file=$TLS_CERT" "-s3.key.file=$TLS_KEY"}
