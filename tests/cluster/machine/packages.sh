#!/usr/bin/env bash
# packages.sh RELEASE FOLDER PACKAGE …
# Unpacks packages of a release of Debian, with all that they depend on, into a new folder: nothing is installed, and no script
# of theirs runs. Needs apt of Debian, or of a relative of it.
set -euo pipefail
release=$1 folder=$2
shift 2

home=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$home"' EXIT
mkdir -p "$home"/{lists/partial,cache/archives/partial,state,root}
: >"$home/state/status" # no package is installed as far as this apt knows, so that all libraries come along
keys=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -m 1 '/debian/$' || true)
echo "deb [signed-by=$keys] ${mirror:-http://deb.debian.org/debian/} $release main" >"$home/sources.list"
options=(-o "Dir::Etc::sourcelist=$home/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o "Dir::State::lists=$home/lists" -o "Dir::State::status=$home/state/status" -o "Dir::Cache=$home/cache"
  -o APT::Sandbox::User=root -o Acquire::Languages=none)
apt-get "${options[@]}" -qq update
apt-get "${options[@]}" -yqq --no-install-recommends --download-only install "$@"

# Packages of before /bin became a link to /usr/bin have files in either.
for name in bin sbin lib lib64; do
  mkdir -p "$home/root/usr/$name"
  ln -s "usr/$name" "$home/root/$name"
done
for package in "$home"/cache/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar -C "$home/root" --keep-directory-symlink -xf -
done
rm -rf "$folder"
mv "$home/root" "$folder"
