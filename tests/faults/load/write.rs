//! Writers: unique values, one idempotent producer for each partition.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla_common::kafka::producer::{Acks, Delivery, Producer, ProducerOptions, ProducerRecord};
use ottla_tests::history::records::Placed;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{Arguments, Outcomes, PATIENCE, connect};

/// Records of a partition without an outcome yet.
const UNDER_WAY_MAX: usize = 200;

/// Before brokers that could not be reached are tried again.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

/// The writer of a partition: unique values, until told to stop. A producer that gave up is
/// followed by another, under a name of its own.
pub async fn write(
    arguments: Arc<Arguments>,
    partition: i32,
    outcomes: Arc<Mutex<Outcomes>>,
    stopping: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let (mut count, mut lives) = (0_u64, 0);
    while !stopping.load(Ordering::SeqCst) {
        lives += 1;
        let name = format!("writer {partition}.{lives}");
        let options =
            ProducerOptions { acks: Acks::All, linger_ms: 1, ..ProducerOptions::default() };
        let Ok(cluster) = connect(&arguments).await else {
            // Perhaps the broker that was asked has just been harmed.
            outcomes.lock().problems.insert(partition, "no broker answers".to_owned());
            tokio::time::sleep(CONNECT_PAUSE).await;
            continue;
        };
        let producer = Producer::new(cluster, options)?;
        let (under_way, settling) = mpsc::channel(UNDER_WAY_MAX);
        let has_failed = Arc::new(AtomicBool::new(false));
        let settled = settle(settling, Arc::clone(&outcomes), Arc::clone(&has_failed));
        let settled = tokio::spawn(settled);
        while !has_failed.load(Ordering::SeqCst) && !stopping.load(Ordering::SeqCst) {
            count += 1;
            let value = format!("{name}/{count}");
            let record = ProducerRecord {
                topic: &arguments.topic,
                partition: Some(partition),
                value: Some(value.as_bytes()),
                ..ProducerRecord::default()
            };
            let Ok(delivery) = producer.send(record).await else { break };
            let placed = Placed { partition, offset: -1, value };
            if under_way.send((placed, delivery)).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_micros(arguments.pause_us)).await;
        }
        drop(under_way);
        settled.await?;
        producer.close(PATIENCE).await;
    }
    Ok(())
}

/// Takes note of the outcomes, in the order in which the records were sent.
async fn settle(
    mut settling: mpsc::Receiver<(Placed, Delivery)>,
    outcomes: Arc<Mutex<Outcomes>>,
    has_failed: Arc<AtomicBool>,
) {
    while let Some((placed, delivery)) = settling.recv().await {
        match delivery.await {
            Ok(delivered) => {
                outcomes.lock().acknowledge(Placed { offset: delivered.offset, ..placed });
            }
            Err(error) => {
                let mut outcomes = outcomes.lock();
                outcomes.unknown += 1;
                outcomes.problems.insert(placed.partition, error.to_string());
                has_failed.store(true, Ordering::SeqCst);
            }
        }
    }
}
