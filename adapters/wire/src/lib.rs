//! Kafka's protocol over TCP.
