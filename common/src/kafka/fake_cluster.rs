//! A broker in a few lines, for tests of the client: one topic, logs in memory, the sequence checks
//! of a real broker, and faults by the roll of a seeded die.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::kafka::error_code::ErrorCode;
use crate::kafka::frame::EncodedFrame;
use crate::kafka::messages::ApiKey;
use crate::kafka::messages::api_versions::ApiVersionsResponse;
use crate::kafka::messages::api_versions::response::ApiVersion;
use crate::kafka::messages::fetch::response::{FetchableTopicResponse, PartitionData};
use crate::kafka::messages::fetch::{FetchRequest, FetchResponse};
use crate::kafka::messages::init_producer_id::InitProducerIdResponse;
use crate::kafka::messages::list_offsets::response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use crate::kafka::messages::list_offsets::{ListOffsetsRequest, ListOffsetsResponse};
use crate::kafka::messages::metadata::MetadataResponse;
use crate::kafka::messages::metadata::response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::kafka::messages::produce::response::{PartitionProduceResponse, TopicProduceResponse};
use crate::kafka::messages::produce::{ProduceRequest, ProduceResponse};
use crate::kafka::record_batch::{RecordBatch, increment_sequence, set_base_offset};
use crate::kafka::records::{Record, RecordLimits};
use crate::kafka::request::{RequestHeader, decode_header};
use crate::kafka::response::{Response, encode_response};
use crate::kafka::wire::{Decode, Reader, Records};
use crate::types::Uuid;

/// The one topic.
pub const TOPIC: &str = "topic";
const TOPIC_ID: Uuid = Uuid([7; 16]);

/// How often things go wrong, in percent of the batches or fetches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The broker says that it is not the leader.
    pub not_leader: u32,
    /// The connection ends before the request is carried out.
    pub lost_before: u32,
    /// The connection ends after it was.
    pub lost_after: u32,
    /// The batch is too large, says the broker.
    pub too_large: u32,
    /// The broker forgets all producers.
    pub forget: u32,
}

#[derive(Default)]
struct PartitionLog {
    batches: Vec<RecordBatch>,
    next_offset: i64,
    /// By producer id: the next sequence, and the last batches' sequence and offset.
    producers: HashMap<i64, (i32, Vec<(i32, i64)>)>,
}

struct State {
    address: std::net::SocketAddr,
    partitions: Vec<PartitionLog>,
    faults: Faults,
    random: fastrand::Rng,
    next_producer_id: i64,
}

/// The broker. It ends with the test's runtime.
#[derive(Clone)]
pub struct FakeCluster {
    state: Arc<Mutex<State>>,
}

/// The connection ends.
struct Lost;

impl FakeCluster {
    /// Starts a broker whose topic has so many partitions.
    pub async fn start(partitions: usize, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State {
            address: listener.local_addr().unwrap(),
            partitions: (0..partitions).map(|_| PartitionLog::default()).collect(),
            faults: Faults::default(),
            random: fastrand::Rng::with_seed(seed),
            next_producer_id: 100,
        };
        let cluster = Self { state: Arc::new(Mutex::new(state)) };
        let acceptor = cluster.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let cluster = acceptor.clone();
                tokio::spawn(async move {
                    let _ = cluster.serve(stream).await;
                });
            }
        });
        cluster
    }

    pub fn address(&self) -> String {
        self.state.lock().address.to_string()
    }

    pub fn set_faults(&self, faults: Faults) {
        self.state.lock().faults = faults;
    }

    /// All records of a partition.
    pub fn records(&self, partition: usize) -> Vec<Record> {
        let state = self.state.lock();
        let batches = state.partitions[partition].batches.iter();
        batches
            .flat_map(|batch| batch.records(RecordLimits::default()))
            .map(Result::unwrap)
            .collect()
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let length = stream.read_i32().await?;
            let mut frame = BytesMut::zeroed(usize::try_from(length).unwrap());
            stream.read_exact(&mut frame).await?;
            let mut reader = Reader::new(frame.freeze());
            let header = decode_header(&mut reader).unwrap();
            if header.api_key == ApiKey::Fetch {
                // Instead of a wait for records.
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            let Ok(answer) = self.answer(&header, &mut reader) else {
                return Ok(());
            };
            stream.write_all(&answer.to_bytes().unwrap()).await?;
        }
    }

    fn answer(&self, header: &RequestHeader, reader: &mut Reader) -> Result<EncodedFrame, Lost> {
        let mut state = self.state.lock();
        let version = header.api_version;
        Ok(match header.api_key {
            ApiKey::ApiVersions => encode(header, &api_versions()),
            ApiKey::Metadata => encode(header, &state.metadata()),
            ApiKey::InitProducerId => {
                state.next_producer_id += 1;
                let producer_id = state.next_producer_id;
                encode(header, &InitProducerIdResponse { producer_id, ..Default::default() })
            }
            ApiKey::Produce => {
                let request = ProduceRequest::decode(reader, version).unwrap();
                encode(header, &state.produce(request)?)
            }
            ApiKey::ListOffsets => {
                let request = ListOffsetsRequest::decode(reader, version).unwrap();
                encode(header, &state.list_offsets(&request))
            }
            ApiKey::Fetch => {
                let request = FetchRequest::decode(reader, version).unwrap();
                encode(header, &state.fetch(&request)?)
            }
            other => panic!("the fake broker was asked for {other:?}"),
        })
    }
}

fn encode(header: &RequestHeader, response: &impl Response) -> EncodedFrame {
    encode_response(header.api_version, header.correlation_id, response).unwrap()
}

fn api_versions() -> ApiVersionsResponse {
    let apis = [
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::ListOffsets,
        ApiKey::Metadata,
        ApiKey::ApiVersions,
        ApiKey::InitProducerId,
    ];
    let range = |key: ApiKey| ApiVersion {
        api_key: key.code(),
        min_version: key.min_version(),
        max_version: key.max_version(),
        ..Default::default()
    };
    ApiVersionsResponse { api_keys: apis.into_iter().map(range).collect(), ..Default::default() }
}

impl State {
    fn happens(&mut self, percent: u32) -> bool {
        self.random.u32(0..100) < percent
    }

    fn metadata(&self) -> MetadataResponse {
        let broker = MetadataResponseBroker {
            node_id: 1,
            host: self.address.ip().to_string().as_str().into(),
            port: i32::from(self.address.port()),
            ..Default::default()
        };
        let partitions = (0i32..).zip(&self.partitions).map(|(partition_index, _)| {
            MetadataResponsePartition { partition_index, leader_id: 1, ..Default::default() }
        });
        let topic = MetadataResponseTopic {
            name: Some(TOPIC.into()),
            topic_id: TOPIC_ID,
            partitions: partitions.collect(),
            ..Default::default()
        };
        MetadataResponse { brokers: vec![broker], topics: vec![topic], ..Default::default() }
    }

    fn produce(&mut self, request: ProduceRequest) -> Result<ProduceResponse, Lost> {
        let faults = self.faults;
        if self.happens(faults.lost_before) {
            return Err(Lost);
        }
        let mut topic = TopicProduceResponse { topic_id: TOPIC_ID, ..Default::default() };
        for data in request.topic_data.into_iter().flat_map(|topic| topic.partition_data) {
            let Some(Records::Bytes(bytes)) = data.records else { panic!("no records") };
            let (code, base_offset) = self.append(usize::try_from(data.index).unwrap(), &bytes);
            topic.partition_responses.push(PartitionProduceResponse {
                index: data.index,
                error_code: code.code(),
                base_offset,
                ..Default::default()
            });
        }
        if self.happens(faults.lost_after) {
            return Err(Lost);
        }
        Ok(ProduceResponse { responses: vec![topic], ..Default::default() })
    }

    fn append(&mut self, partition: usize, bytes: &Bytes) -> (ErrorCode, i64) {
        let faults = self.faults;
        if self.happens(faults.not_leader) {
            return (ErrorCode::NotLeaderOrFollower, -1);
        }
        if self.happens(faults.forget) {
            self.partitions.iter_mut().for_each(|partition| partition.producers.clear());
        }
        let batch = RecordBatch::parse_one(bytes.clone()).unwrap();
        batch.validate().unwrap();
        // Not by chance: a batch that was taken must not be refused when it comes again.
        if crc32c::crc32c(&batch.payload()) % 100 < faults.too_large {
            return (ErrorCode::MessageTooLarge, -1);
        }
        let log = &mut self.partitions[partition];
        let header = batch.header;
        if header.has_producer_id() {
            let known = log.producers.get(&header.producer_id);
            if known.is_none() && header.base_sequence != 0 {
                return (ErrorCode::UnknownProducerId, -1);
            }
            let (next, last) = log.producers.entry(header.producer_id).or_default();
            if let Some((_, offset)) = last.iter().find(|(seq, _)| *seq == header.base_sequence) {
                return (ErrorCode::None, *offset);
            }
            if *next != header.base_sequence {
                return (ErrorCode::OutOfOrderSequenceNumber, -1);
            }
            *next = increment_sequence(*next, header.records_count);
            last.push((header.base_sequence, log.next_offset));
            if last.len() > 5 {
                last.remove(0);
            }
        }
        let base_offset = log.next_offset;
        let mut bytes = batch.bytes.to_vec();
        set_base_offset(&mut bytes, base_offset).unwrap();
        log.batches.push(RecordBatch::parse_one(bytes.into()).unwrap());
        log.next_offset += i64::from(header.records_count);
        (ErrorCode::None, base_offset)
    }

    fn list_offsets(&self, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let answer = |partition_index: i32, timestamp: i64| {
            let log = &self.partitions[usize::try_from(partition_index).unwrap()];
            let offset = if timestamp == -1 { log.next_offset } else { 0 };
            ListOffsetsPartitionResponse { partition_index, offset, ..Default::default() }
        };
        let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
        let topic = ListOffsetsTopicResponse {
            name: TOPIC.into(),
            partitions: partitions.map(|p| answer(p.partition_index, p.timestamp)).collect(),
            ..Default::default()
        };
        ListOffsetsResponse { topics: vec![topic], ..Default::default() }
    }

    fn fetch(&mut self, request: &FetchRequest) -> Result<FetchResponse, Lost> {
        let faults = self.faults;
        if self.happens(faults.lost_before) {
            return Err(Lost);
        }
        let mut topic = FetchableTopicResponse { topic_id: TOPIC_ID, ..Default::default() };
        for asked in request.topics.iter().flat_map(|topic| &topic.partitions) {
            let mut data = PartitionData { partition_index: asked.partition, ..Default::default() };
            if self.happens(faults.not_leader) {
                data.error_code = ErrorCode::NotLeaderOrFollower.code();
            } else {
                let log = &self.partitions[usize::try_from(asked.partition).unwrap()];
                let batches = log.batches.iter();
                // From the batch that holds the offset on, and the last one cut off.
                let rest =
                    batches.skip_while(|batch| batch.header.last_offset() < asked.fetch_offset);
                let rest: Vec<&[u8]> = rest.take(3).map(|batch| &batch.bytes[..]).collect();
                let mut bytes = rest.concat();
                if rest.len() == 3 {
                    bytes.truncate(bytes.len() - 1);
                }
                data.high_watermark = log.next_offset;
                data.records = Some(Records::Bytes(bytes.into()));
            }
            topic.partitions.push(data);
        }
        Ok(FetchResponse { responses: vec![topic], ..Default::default() })
    }
}
