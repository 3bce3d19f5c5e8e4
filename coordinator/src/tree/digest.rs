//! The digest of a state: the sum of a hash of each node and each session, so that it does not
//! depend on an order, and a change subtracts what was and adds what is. Members compare it to see
//! that they hold the same state. It tells mistakes, not attacks.

/// Hashes one node or session.
#[derive(Debug)]
pub struct Hasher(u64);

impl Hasher {
    /// Begins with what names the thing.
    pub fn new(name: &str) -> Self {
        let mut hasher = Self(0);
        hasher.add_text(name);
        hasher
    }

    /// Adds a number.
    pub fn add(&mut self, value: u64) {
        self.0 = mix(self.0.rotate_left(5) ^ value);
    }

    /// Adds a text, its length included.
    pub fn add_text(&mut self, text: &str) {
        let crc = u64::from(crc32c::crc32c(text.as_bytes()));
        self.add(crc | (text.len() as u64) << 32);
    }

    /// The hash.
    pub fn finish(self) -> u64 {
        self.0
    }
}

/// The last steps of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input moves every bit
/// of the result.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
