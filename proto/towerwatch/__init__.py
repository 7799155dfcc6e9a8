"""The contract: everything that crosses a process border, as protobuf messages and Kafka topics."""
