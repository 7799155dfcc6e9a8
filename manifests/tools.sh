#!/usr/bin/env bash
# Installs what checks the manifests without a cluster, below build/tools: kustomize and Gateway API's definitions by Go's
# module proxy, which checks their sums; the checkers from PyPI, each in an environment of its own (checkov pins a hundred
# packages, kubernetes-validate brings 100 MB of schemas: the project's own environment has no use for either).
# Needs Go 1.24 or newer and .venv (`make environment`). What is there in the right version is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

KUSTOMIZE=v5.8.1
GATEWAY_API=v1.5.1  # the one that NGINX Gateway Fabric 2.6 supports; local/kind/cluster.py installs the same
KUBERNETES_VALIDATE=1.37.0
CHECKOV=3.3.30

tools=$PWD/build/tools
versions="$KUSTOMIZE $GATEWAY_API $KUBERNETES_VALIDATE $CHECKOV"
if [ "$(cat "$tools/.versions" 2>/dev/null)" = "$versions" ]; then exit; fi
rm -rf "$tools"
mkdir -p "$tools"

GOBIN=$tools GOFLAGS=-modcacherw go install "sigs.k8s.io/kustomize/kustomize/v5@$KUSTOMIZE"
module=$(GOFLAGS=-modcacherw go mod download -json "sigs.k8s.io/gateway-api@$GATEWAY_API" |
  .venv/bin/python -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')
cp -r "$module/config/crd/standard" "$tools/gateway-api"
chmod -R u+w "$tools/gateway-api"

export UV_TOOL_DIR=$tools/environments UV_TOOL_BIN_DIR=$tools/bin
.venv/bin/uv tool install --quiet "kubernetes-validate==$KUBERNETES_VALIDATE"
.venv/bin/uv tool install --quiet "checkov==$CHECKOV"
echo "$versions" >"$tools/.versions"
