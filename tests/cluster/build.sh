#!/usr/bin/env bash
# build.sh [--behind] [PROGRAM …]
# Builds programs of a Kubernetes control plane for the tests of this folder into build/cluster: those that are named, or
# all of them; with --behind while nothing else wants the processor. They come from Go's module proxy in the versions of
# go/go.mod, whose sums are in go/go.sum. What is there from the same sources and the same Go is left alone; a second call
# waits for the first one's end. Needs Go of go/go.mod's version or newer.
set -euo pipefail
cd "$(dirname "$0")/go"

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

out=$(cd ../../.. && pwd)/build/cluster
mkdir -p "$out"
exec 9>"$out/.lock"
if command -v flock >/dev/null; then flock 9; fi
key=$(cat go.mod go.sum ../build.sh <(go env GOVERSION GOOS GOARCH) | sha256sum | cut -d' ' -f1)
if [ "$(cat "$out/.key" 2>/dev/null)" != "$key" ]; then
  rm -f "${all[@]/#/$out/}"
  echo "$key" >"$out/.key"
fi
missing=()
for program; do
  if [ -x "$out/$program" ]; then continue; fi
  case $program in
    etcd) missing+=(go.etcd.io/etcd/server/v3) ;;
    *) missing+=("k8s.io/kubernetes/cmd/$program") ;;
  esac
done
if [ ${#missing[@]} = 0 ]; then exit; fi

# The programs run for a minute, so what makes them faster is left out: without inlining and without tables for debuggers
# the compiler takes two thirds of its time; and three quarters of that where it collects garbage more seldom, with half a
# gigabyte for a large package. No C, so that they run on any Linux.
export CGO_ENABLED=0 GOGC=${GOGC:-400} GOFLAGS="${GOFLAGS:-} -mod=readonly -modcacherw -trimpath -buildvcs=false"
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v1.}
flags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*} -X $package.gitTreeState=clean"
done
rm -rf "$out/new"
mkdir "$out/new"
"${first[@]}" go build -gcflags='all=-l -dwarf=false' -ldflags "$flags" -o "$out/new/" "${missing[@]}" &
# Who ends this script ends the build, too.
trap 'kill $!' TERM INT
wait $!
if [ -x "$out/new/server" ]; then mv "$out/new/server" "$out/new/etcd"; fi
mv "$out/new/"* "$out/"
rmdir "$out/new"
times >"$out/.times"
echo "Built $* in $SECONDS s; CPU, user and system: $(tail -n 1 "$out/.times")"
