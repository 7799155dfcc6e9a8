#!/usr/bin/bash
# What the image `mysql` does with these variables, as far as the manifests use them: makes the database with its user at the
# first start, while the server listens on its socket alone, then runs the server in place of itself.
set -euo pipefail

server=(/opt/mysql/run /opt/mysql/usr/sbin/mysqld --basedir=/opt/mysql/usr --lc-messages-dir=/opt/mysql/usr/share/mysql
  --plugin-dir=/opt/mysql/usr/lib/mysql/plugin --socket=/var/run/mysqld/mysqld.sock --pid-file=/var/run/mysqld/mysqld.pid
  --secure-file-priv=NULL)
defaults=--defaults-extra-file=/etc/mysql/conf.d/towerwatch.cnf
data=$(sed -n 's/^datadir *= *//p' /etc/mysql/conf.d/towerwatch.cnf)
first=("${server[0]}" "${server[1]}" "$defaults" "${server[@]:2}")

if [ ! -e "$data/mysql.ibd" ]; then
  "${first[@]}" --initialize-insecure
  "${first[@]}" --skip-networking &
  pid=$!
  client=(mysql --protocol=socket --socket=/var/run/mysqld/mysqld.sock --user=root)
  until "${client[@]}" --execute='SELECT 1' >/dev/null 2>&1; do
    kill -0 $pid
    sleep 0.5
  done
  "${client[@]}" <<SQL
CREATE DATABASE $MYSQL_DATABASE;
CREATE USER '$MYSQL_USER'@'%' IDENTIFIED BY '$(cat "$MYSQL_PASSWORD_FILE")';
GRANT ALL ON $MYSQL_DATABASE.* TO '$MYSQL_USER'@'%';
ALTER USER 'root'@'localhost' IDENTIFIED BY '$(cat "$MYSQL_ROOT_PASSWORD_FILE")';
SQL
  kill $pid
  wait $pid
fi
exec "${first[@]}"
