#!/usr/bin/env bash
# build.sh [--behind] [PROGRAM …]
# Builds programs of Kubernetes for the tests of this folder into build/cluster: those that are named, or the control plane's;
# with --behind while nothing else wants the processor. They come from Go's module proxy in the versions of go/go.mod, or
# of node/go.mod (containers and their network), whose sums are in the go.sum beside it. What is there from the same sources
# and the same Go is left alone; a second call waits for the first one's end. Needs Go of go.mod's version or newer.
set -euo pipefail
cd "$(dirname "$0")"

first=(nice -n 5)
if [ "${1:-}" = --behind ]; then
  shift
  first=(nice -n 19)
  # Where Linux groups processes by session (sched(7), autogroup), nice counts within a session alone, and tests start
  # services in sessions of their own. So the build has a session, too, whose priority is the lowest.
  if command -v setsid >/dev/null && [ -w /proc/self/autogroup ]; then
    first+=(setsid sh -c 'echo 19 >/proc/self/autogroup; exec "$@"' sh)
  fi
fi
all=(etcd kube-apiserver kubectl kube-controller-manager kube-scheduler)
[ $# -gt 0 ] || set -- "${all[@]}"

# Found, too, where it was installed and is on no PATH.
PATH=$PATH:/usr/local/go/bin
if ! command -v go >/dev/null; then echo "Go is not installed: https://go.dev/doc/install" >&2; exit 3; fi

out=$(cd ../.. && pwd)/build/cluster
mkdir -p "$out"
exec 9>"$out/.lock"
if command -v flock >/dev/null; then flock 9; fi

package_of() {  # PROGRAM: its package in Go's modules
  case $1 in
    etcd) echo go.etcd.io/etcd/server/v3 ;;
    containerd | containerd-shim-runc-v2 | ctr) echo "github.com/containerd/containerd/v2/cmd/$1" ;;
    bridge | loopback) echo "github.com/containernetworking/plugins/plugins/main/$1" ;;
    host-local) echo "github.com/containernetworking/plugins/plugins/ipam/$1" ;;
    portmap) echo "github.com/containernetworking/plugins/plugins/meta/$1" ;;
    *) echo "k8s.io/kubernetes/cmd/$1" ;;
  esac
}

# The programs are made to run soon, so what makes them faster is left out: without inlining and without tables for debuggers
# the compiler takes two thirds of its time; and three quarters of that where it collects garbage more seldom, with half a
# gigabyte for a large package. No C, so that they run on any Linux.
export CGO_ENABLED=0 GOGC=${GOGC:-400} GOFLAGS="${GOFLAGS:-} -mod=readonly -modcacherw -trimpath -buildvcs=false"

build() {  # MODULE PROGRAM …: builds those of one folder's module that are not there yet
  local module=$1 program version minor key package
  local missing=() flags="-s -w"
  shift
  cd "$module"
  key=$(cat go.mod go.sum ../build.sh <(go env GOVERSION GOOS GOARCH) | sha256sum | cut -d' ' -f1)
  for program; do
    if [ -x "$out/$program" ] && [ "$(cat "$out/.$program.key" 2>/dev/null)" = "$key" ]; then continue; fi
    rm -f "$out/$program"
    missing+=("$program")
  done
  if [ ${#missing[@]} = 0 ]; then cd ..; return; fi
  if [ "$module" = go ]; then
    version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
    minor=${version#v1.}
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
      flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*} -X $package.gitTreeState=clean"
    done
  fi
  rm -rf "$out/new"
  mkdir "$out/new"
  # The tags leave out what containerd would need C libraries for, or the kernel of few machines has.
  "${first[@]}" go build -gcflags='all=-l -dwarf=false' -ldflags "$flags" -tags no_btrfs,no_devmapper,no_zfs \
    -o "$out/new/" $(for program in "${missing[@]}"; do package_of "$program"; done) &
  # Who ends this script ends the build, too.
  trap 'kill $!' TERM INT
  wait $!
  if [ -x "$out/new/server" ]; then mv "$out/new/server" "$out/new/etcd"; fi
  mv "$out/new/"* "$out/"
  rmdir "$out/new"
  for program in "${missing[@]}"; do echo "$key" >"$out/.$program.key"; done
  times >"$out/.times"
  echo "Built ${missing[*]} in $SECONDS s; CPU, user and system: $(tail -n 1 "$out/.times")"
  cd ..
}

control_plane=() node=()
for program; do
  case $(package_of "$program") in
    github.com/*) node+=("$program") ;;
    *) control_plane+=("$program") ;;
  esac
done
if [ ${#control_plane[@]} != 0 ]; then build go "${control_plane[@]}"; fi
if [ ${#node[@]} != 0 ]; then build node "${node[@]}"; fi
