#!/usr/bin/bash
# Runs Debian's Prometheus, which is built without the discovery of Kubernetes: with the rules of /etc/prometheus, and without
# anything to scrape.
set -euo pipefail
printf 'rule_files: ["/etc/prometheus/rules/*.yml"]\n' >/prometheus/stand-in.yml
arguments=()
for argument; do
  case $argument in
    --config.file=*) arguments+=(--config.file=/prometheus/stand-in.yml) ;;
    *) arguments+=("$argument") ;;
  esac
done
exec /usr/bin/prometheus "${arguments[@]}"
