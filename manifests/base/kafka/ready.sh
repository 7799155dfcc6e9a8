#!/bin/bash
# Whether this broker may be called ready: it answers for the cluster's metadata, and each partition that has a copy here
# counts that copy among those in step. So a rollout takes the next broker only when this one has caught up, and nobody
# may evict another one meanwhile. Clients do not look at readiness.
set -euo pipefail

id=$((FIRST_NODE_ID + ${HOSTNAME##*-}))
export KAFKA_HEAP_OPTS=-Xmx64m KAFKA_OPTS=
lagging=$(/opt/kafka/bin/kafka-topics.sh --bootstrap-server localhost:9092 --describe --under-replicated-partitions)
while read -r line; do
  if [[ $line =~ Replicas:[[:space:]]*([0-9,]*)[[:space:]]+Isr:[[:space:]]*([0-9,]*) ]]; then
    copies=,${BASH_REMATCH[1]}, in_step=,${BASH_REMATCH[2]},
    if [[ $copies == *,$id,* && $in_step != *,$id,* ]]; then
      echo "not in step: $line"
      exit 1
    fi
  fi
done <<<"$lagging"
