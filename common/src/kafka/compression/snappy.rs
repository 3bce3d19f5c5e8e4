//! Snappy as Kafka's clients write it: Java in the framing of `xerial/snappy-java` (a header of 16
//! bytes, then blocks, each after its length), others as one raw block. Both are read.

use std::io::{self, Read};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// The version of the framing, and the lowest that can read it.
const VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// Bytes of a block before compression, as Java has it.
const BLOCK_SIZE: usize = 32 * 1024;
/// A Snappy element of 3 bytes gives at most 64, so no honest block promises more than this.
const EXPANSION_MAX: usize = 22;

/// Appends `input` to `out`, framed and compressed.
pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut encoder = snap::raw::Encoder::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSIONS);
    for block in input.chunks(BLOCK_SIZE) {
        let compressed = encoder.compress_vec(block)?;
        let length = u32::try_from(compressed.len()).map_err(io::Error::other)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(())
}

/// Decompresses block by block.
pub(super) struct SnappyReader<'a> {
    input: &'a [u8],
    framed: bool,
    /// No block may be larger when decompressed.
    limit: usize,
    too_large: bool,
    block: Vec<u8>,
    /// How much of `block` was read.
    position: usize,
}

impl<'a> SnappyReader<'a> {
    pub(super) fn new(input: &'a [u8], limit: usize) -> Self {
        let framed = input.starts_with(&MAGIC);
        Self { input, framed, limit, too_large: false, block: Vec::new(), position: 0 }
    }

    /// Whether a block said that it is larger than the limit.
    pub(super) fn too_large(&self) -> bool {
        self.too_large
    }

    /// Decompresses the next block. `false` at the end.
    fn next_block(&mut self) -> io::Result<bool> {
        let Some(compressed) = self.next_compressed()? else {
            return Ok(false);
        };
        let size = snap::raw::decompress_len(compressed)?;
        if size > compressed.len().saturating_mul(EXPANSION_MAX) {
            return Err(io::Error::other("a block promises more than it can hold"));
        }
        if size > self.limit {
            self.too_large = true;
            return Err(io::Error::other("larger than allowed"));
        }
        self.position = 0;
        self.block.resize(size, 0);
        snap::raw::Decoder::new().decompress(compressed, &mut self.block)?;
        Ok(true)
    }

    fn next_compressed(&mut self) -> io::Result<Option<&'a [u8]>> {
        if !self.framed {
            let all = std::mem::take(&mut self.input);
            return Ok((!all.is_empty()).then_some(all));
        }
        // Streams that were appended one to the other begin each with a header.
        while let Some(rest) = self.input.strip_prefix(&MAGIC) {
            let Some((_versions, rest)) = rest.split_first_chunk::<8>() else {
                return Err(io::Error::other("the header is cut off"));
            };
            self.input = rest;
        }
        if self.input.is_empty() {
            return Ok(None);
        }
        let cut_off = || io::Error::other("a block is cut off");
        let (length, rest) = self.input.split_first_chunk().ok_or_else(cut_off)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(io::Error::other)?;
        let (block, rest) = rest.split_at_checked(length).ok_or_else(cut_off)?;
        self.input = rest;
        Ok(Some(block))
    }
}

impl Read for SnappyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut rest = self.block.get(self.position..).unwrap_or_default();
            if !rest.is_empty() {
                let read = rest.read(buffer)?;
                self.position += read;
                return Ok(read);
            }
            if !self.next_block()? {
                return Ok(0);
            }
        }
    }
}
