//! Real Kafka clients and tools against the real binary.
