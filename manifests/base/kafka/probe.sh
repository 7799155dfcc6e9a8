#!/bin/bash
# probe.sh QUESTION PORT: asks the node of Kafka in this pod one question, by one request of Kafka's own protocol
# (https://kafka.apache.org/protocol), and ends with 0 for yes. The tools that come with Kafka would ask the same, and begin
# a JVM for it, which takes seconds of CPU each time.
#   answers  Does this broker answer for the cluster's metadata, and count itself among the brokers?
#   in-step  That, and is each copy of a partition that it has in step? So a rollout takes the next broker only when this one
#            has caught up, and nobody may evict another one meanwhile. Clients do not look at readiness.
#   leader   Does this controller know which controller leads?
set -euo pipefail

question=$1 port=$2
id=$((FIRST_NODE_ID + ${HOSTNAME##*-}))
case $question in
  # Metadata, version 4: of no topic, or of all. Each request begins with its size, key, version, number and our name.
  answers) request='\0\0\0\024\0\003\0\004\0\0\0\001\0\005probe\0\0\0\0\0' ;;
  in-step) request='\0\0\0\024\0\003\0\004\0\0\0\001\0\005probe\377\377\377\377\0' ;;
  # DescribeCluster, version 1, of the controllers.
  leader) request='\0\0\0\023\0\074\0\001\0\0\0\001\0\005probe\0\0\002\0' ;;
  *) echo "no question of this probe: $question" >&2; exit 2 ;;
esac

# Nothing that waits here outlives its probe: each may take ten seconds.
exec 3<>"/dev/tcp/127.0.0.1/$port"
printf "$request" >&3
size=$(timeout 10 dd bs=1 count=4 <&3 2>/dev/null | od -An -v -tu1 | awk '{ print $1 * 16777216 + $2 * 65536 + $3 * 256 + $4 }')
if [ -z "$size" ]; then echo "no answer"; exit 1; fi

timeout 10 head -c "$size" <&3 | od -An -v -tu1 | awk -v question="$question" -v id="$id" -v size="$size" '
  function fail(reason) { print reason; failed = 1; exit 1 }
  function int8() { if (at >= count) fail("half an answer"); return bytes[at++] }
  function int16(  value) { value = int8() * 256 + int8(); return value < 32768 ? value : value - 65536 }
  function int32(  value) {
    value = int8() * 16777216; value += int8() * 65536; value += int8() * 256; value += int8()
    return value < 2147483648 ? value : value - 4294967296
  }
  function text(  length_, value) {
    for (length_ = int16(); length_ > 0; length_--) value = value sprintf("%c", int8())
    return value
  }
  function has(wanted,  number, found) { for (number = int32(); number > 0; number--) if (int32() == wanted) found = 1; return found }

  { for (field = 1; field <= NF; field++) bytes[count++] = $field }

  END {
    if (failed) exit 1
    if (count < size || size < 16) fail("half an answer")
    if (int32() != 1) fail("the answer to another question")
    if (question == "leader") {
      at += 1 + 4                             # no tags, throttle time
      error = int16()
      if (error != 0) fail("error " error)
      at += 1 + 1                             # no error message, kind of endpoints
      at += int8() - 1                        # the id of the cluster
      if (int32() < 0) fail("no controller leads")
      exit 0
    }
    at += 4                                   # throttle time
    for (brokers = int32(); brokers > 0; brokers--) {
      if (int32() == id) known = 1
      text(); int32(); text()                 # host, port, rack
    }
    if (!known) fail("broker " id " is not among the brokers")
    if (question == "answers") exit 0
    text(); int32()                           # ids of the cluster and of the controller
    for (topics = int32(); topics > 0; topics--) {
      int16(); topic = text(); int8()         # error, is it internal
      for (partitions = int32(); partitions > 0; partitions--) {
        int16(); partition = int32(); int32() # error, leader
        has_copy = has(id); is_in_step = has(id)
        if (has_copy && !is_in_step) fail("not in step: partition " partition " of " topic)
      }
    }
  }'
