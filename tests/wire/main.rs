//! Checks Kafka's codec: against another implementation, against lying lengths, against noise.
//!
//! Messages are not made by the code under test but by [`generate`], which reads the schema itself
//! and writes random bytes by it. The same seed makes the same messages: `OTTLA_SEED=…` repeats a
//! run. `OTTLA_ROUNDS=…` makes it longer. A name as argument runs only the checks that contain it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod codec;
mod differential;
mod generate;
mod lies;
mod mistakes;
mod mutations;
// The schema is read by the same parser as in the build, but written by the generator here.
#[allow(dead_code)]
#[path = "../../common/codegen/model.rs"]
mod model;
#[allow(dead_code)]
#[path = "../../common/codegen/parse.rs"]
mod parse;

use std::env;
use std::path::Path;
use std::time::Instant;

use peak_alloc::PeakAlloc;

use crate::model::{Message, Schema};

/// Counts what is allocated. The checks run one after the other, so all of it is theirs.
#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What the checks work on.
pub struct Wire {
    schema: Schema,
    seed: u64,
    /// How many times as long as usual.
    rounds: u64,
}

/// One side of an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// What a client sends.
    Request,
    /// What a broker answers.
    Response,
}

impl Wire {
    /// All messages of all APIs.
    fn messages(&self) -> impl Iterator<Item = (i16, Side, &Message)> {
        self.schema.apis.iter().flat_map(|api| {
            [(api.key, Side::Request, &api.request), (api.key, Side::Response, &api.response)]
        })
    }

    /// A source of randomness for one case, which the case's number repeats.
    fn random(&self, case: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed ^ case.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// A check: gives the figures to print, panics if it fails.
type Check = fn(&Wire) -> String;

const CHECKS: [(&str, Check); 8] = [
    ("mistakes_in_the_schema_are_placed", mistakes::mistakes_are_placed),
    ("bytes_survive_decoding_and_encoding", differential::bytes_survive),
    ("records_survive_decoding_and_encoding", differential::records_survive),
    ("both_implementations_agree", differential::both_agree),
    ("versions_translate_alike", differential::versions_translate_alike),
    ("lengths_that_lie", lies::lengths_that_lie),
    ("densest_frames", lies::densest_frames),
    ("random_mutations", mutations::random_mutations),
];

fn main() {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../common/schema");
    let wire = Wire {
        schema: parse::read_schema(&folder).unwrap(),
        seed: number("OTTLA_SEED").unwrap_or_else(|| fastrand::u64(..)),
        rounds: number("OTTLA_ROUNDS").unwrap_or(1),
    };
    println!("OTTLA_SEED={}", wire.seed);
    let wanted: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, check) in CHECKS {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            let start = Instant::now();
            let figures = check(&wire);
            println!("{name}: {figures} ({:.1} s)", start.elapsed().as_secs_f64());
        }
    }
}
