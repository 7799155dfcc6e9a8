#!/usr/bin/env bash
# Builds a Kubernetes control plane for the tests of this folder into build/cluster: etcd, kube-apiserver,
# kube-controller-manager, kube-scheduler and kubectl, from Go's module proxy in the versions of go/go.mod, whose sums are in
# go/go.sum. What is there from the same sources and the same Go is left alone. Needs Go of go/go.mod's version or newer.
set -euo pipefail
cd "$(dirname "$0")/go"

# Found, too, where it was installed and is on no PATH.
PATH=$PATH:/usr/local/go/bin
if ! command -v go >/dev/null; then echo "Go is not installed: https://go.dev/doc/install" >&2; exit 3; fi

out=$(cd ../../.. && pwd)/build/cluster
key=$(cat go.mod go.sum ../build.sh <(go env GOVERSION GOOS GOARCH) | sha256sum | cut -d' ' -f1)
if [ "$(cat "$out/.key" 2>/dev/null)" = "$key" ]; then exit; fi
rm -rf "$out"
mkdir -p "$out"

# The programs run for a minute, so what makes them faster is left out: without inlining and without tables for debuggers
# the compiler takes two thirds of its time. No C, so that they run on any Linux.
export CGO_ENABLED=0 GOFLAGS='-mod=readonly -modcacherw -trimpath -buildvcs=false'
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v1.}
flags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*} -X $package.gitTreeState=clean"
done
nice -n 15 go build -gcflags='all=-l -dwarf=false' -ldflags "$flags" -o "$out/" \
  k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubectl} go.etcd.io/etcd/server/v3
mv "$out/v3" "$out/etcd" 2>/dev/null || mv "$out/server" "$out/etcd"
echo "$key" >"$out/.key"
