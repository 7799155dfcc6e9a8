#!/usr/bin/bash
# Runs one of Kafka's tools by the name of its script, with the variables that Kafka's own scripts read.
set -euo pipefail
case ${0##*/} in
  kafka-storage.sh) class=kafka.tools.StorageTool ;;
  kafka-server-start.sh) class=kafka.Kafka ;;
  *) echo "unknown: $0" >&2; exit 2 ;;
esac
exec java ${KAFKA_HEAP_OPTS:--Xmx256m} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto ${KAFKA_OPTS-} ${KAFKA_LOG4J_OPTS-} \
  -cp '/opt/kafka/libs/*' "$class" "$@"
