//! Tests of running members and brokers over real sockets. `t10_` basics, `t20_` the coordinator
//! and its client, `t30_` the client of Kafka's protocol, `t40_` the controller, `t50_` what the
//! environment does, `t60_` members that come and go, `t70_` several brokers and what moves between
//! them, `t80_` monitoring, `t90_` bugs that were.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod t10_dev;
mod t15_open_files;
mod t20_coordination_client;
mod t30_kafka_client;
mod t40_campaign;
mod t50_coordinator;
mod t55_start;
mod t60_members;
mod t70_replication;
mod t75_movements;
mod t76_log_dirs;
mod t77_dynamic_configs;
mod t78_quotas;
mod t80_monitoring;
