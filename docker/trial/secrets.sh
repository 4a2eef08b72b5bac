#!/bin/sh
# Make the certificates, keys and passwords of docker/compose.cells.yaml in three folders below the one given: what etcd
# needs, what cells need, and what the trial's site, S3 server and seed need. Does nothing where they are there already.
# Not for production: there each has an owner of its own (docs/deployment-prod.md, "Claims").
set -eu
cd "${1:?the folder}"
umask 077
mkdir -p etcd cells trial
[ ! -f trial/complete ] || exit 0
authority=$(mktemp -d)
trap 'rm -rf "$authority"' EXIT

# Sign a certificate for a name: FILE NAME USAGES NAMES.
sign() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$1.key" -out "$authority/request" -subj "/CN=$2"
    printf 'basicConstraints=critical,CA:FALSE\nextendedKeyUsage=%s\nsubjectAltName=%s\n' "$3" "$4" >"$authority/extensions"
    openssl x509 -req -in "$authority/request" -CA "$authority/ca.pem" -CAkey "$authority/ca.key" -CAcreateserial \
        -days 30 -extfile "$authority/extensions" -out "$1.pem"
}

# Its key goes with this script: nobody signs a further certificate by it.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$authority/ca.key" \
    -out "$authority/ca.pem" -days 30 -subj "/CN=Tabfleet trial" -addext keyUsage=critical,keyCertSign,cRLSign
# Of a client, too: etcd's JSON gateway is a client of etcd by this certificate.
sign etcd/etcd etcd serverAuth,clientAuth DNS:etcd,IP:127.0.0.1
sign cells/cell cells clientAuth DNS:cells
cp "$authority/ca.pem" etcd/ca.pem
cp "$authority/ca.pem" cells/ca.pem

age-keygen -o cells/session-key.txt
for name in s3-reader s3-admin api-key; do
    openssl rand -hex 24 >"trial/$name"
done
cp trial/s3-reader cells/s3-reader
touch trial/complete
