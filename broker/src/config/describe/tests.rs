//! Compared with what a real Kafka 4.4 answers.
