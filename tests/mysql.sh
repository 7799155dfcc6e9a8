#!/usr/bin/env bash
# Runs the tests of databases on a real MySQL in place of MariaDB: on the server that TOWERWATCH_MYSQL_URL names, or on
# the newest that Debian has, in sid. Arguments go to pytest.
# The server and the libraries that it needs are unpacked below build/mysql and run from there: nothing of sid is
# installed. Needs apt (Debian or a relative of it), and some 60 MB of downloads once.
# Ends with 77 if MySQL cannot be had: sid moves, and may be broken for a day.
set -euo pipefail
cd "$(dirname "$0")/.."

run_tests() { TOWERWATCH_REQUIRE_MARIADB=1 .venv/bin/python -m pytest -m "mariadb and not faults" "$@"; }

if [ -n "${TOWERWATCH_MYSQL_URL:-}" ]; then
  run_tests "$@"
  exit
fi

home=$PWD/build/mysql
root=$home/root
if [ ! -x "$root/usr/sbin/mysqld" ]; then
  rm -rf "$home"
  mkdir -p "$home"/{lists/partial,cache/archives/partial,state} "$root"
  : >"$home/state/status" # no package is installed as far as this apt knows, so that all libraries come along
  keys=/usr/share/keyrings/debian-archive-keyring.gpg
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -m 1 '/debian/$' || true)
  echo "deb [signed-by=$keys] $mirror sid main" >"$home/sources.list"
  options=(-o "Dir::Etc::sourcelist=$home/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$home/lists" -o "Dir::State::status=$home/state/status" -o "Dir::Cache=$home/cache"
    -o APT::Sandbox::User=root -o Acquire::Languages=none)
  {
    apt-get "${options[@]}" -qq update &&
      apt-get "${options[@]}" -yqq --no-install-recommends --download-only install mysql-server-core &&
      for package in "$home"/cache/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
  } || {
    rm -rf "$home"
    echo "MySQL could not be had from Debian sid: its tests did not run." >&2
    exit 77
  }
  rm -rf "$home"/{cache,lists}
fi

libraries=$root/usr/lib/x86_64-linux-gnu
data=$(mktemp -d)
port=$(.venv/bin/python -c 'from tests.ports import free_port; print(free_port())')
serve=("$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "$root/usr/sbin/mysqld" --no-defaults
  "--basedir=$root/usr" "--lc-messages-dir=$root/usr/share/mysql" "--plugin-dir=$root/usr/lib/mysql/plugin"
  "--datadir=$data/data" --secure-file-priv=NULL --tls-version= --innodb-redo-log-capacity=64M)
if [ "$(id -u)" = 0 ]; then serve+=(--user=root); fi
"${serve[@]}" --version || {
  echo "MySQL of Debian sid does not run here: its tests did not run." >&2
  exit 77
}
"${serve[@]}" --initialize-insecure 2>"$data/log" || { cat "$data/log" >&2; exit 1; }
"${serve[@]}" "--port=$port" --bind-address=127.0.0.1 "--socket=$data/socket" "--pid-file=$data/pid" --mysqlx=OFF \
  --innodb-flush-log-at-trx-commit=0 --skip-log-bin --performance-schema=0 2>>"$data/log" &
server=$!
# The status is that of the tests, not that of the server, which is killed.
trap 'status=$?; { kill -KILL $server; wait $server; } 2>/dev/null || true; rm -rf "$data"; exit $status' EXIT
export TOWERWATCH_MYSQL_URL="mysql+pymysql://root@127.0.0.1:$port/?ssl_disabled=true"
.venv/bin/python - <<'PYTHON' || { cat "$data/log" >&2; exit 1; }
import os
from sqlalchemy import make_url
from tests.mariadb_fixture import DatabaseServer
from tests.waiting import eventually
eventually(DatabaseServer(make_url(os.environ["TOWERWATCH_MYSQL_URL"])).is_available, "the start of MySQL")
PYTHON
run_tests "$@"
