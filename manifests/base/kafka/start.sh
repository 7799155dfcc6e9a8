#!/bin/bash
# Starts one node of Kafka. Its properties are those of all nodes, those of its StatefulSet, and its own; where one
# stands twice the last holds.
set -euo pipefail

name=${HOSTNAME%-*}
properties=/tmp/node.properties
cat /etc/towerwatch/server.properties "/etc/towerwatch/$name.properties" >"$properties"
echo "node.id=$((FIRST_NODE_ID + ${HOSTNAME##*-}))" >>"$properties"
if [ -n "${ADVERTISED_LISTENERS-}" ]; then echo "advertised.listeners=$ADVERTISED_LISTENERS" >>"$properties"; fi
# Nothing where the nodes have no zone.
if [ -n "${RACK-}" ]; then echo "broker.rack=$RACK" >>"$properties"; fi

/opt/kafka/bin/kafka-storage.sh format --ignore-formatted --cluster-id "$CLUSTER_ID" --config "$properties"
exec /opt/kafka/bin/kafka-server-start.sh "$properties"
