//! Java's own format of key stores (`JKS`), which a `zoo.cfg` may name. Its protection of keys is a
//! chain of SHA-1, which nobody should choose today; such files are read, never written.
//!
//! A file is: magic, version, the number of entries, the entries, and a digest of the password and
//! all before it. Numbers are big-endian.

use sha1::{Digest, Sha1};

/// The first bytes of such a file.
pub const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];

/// What is hashed between the password and the file.
const WHITENER: &[u8] = b"Mighty Aphrodite";

/// The length of a SHA-1, in bytes.
const DIGEST_SIZE: usize = 20;

/// The algorithm that protects keys: 1.3.6.1.4.1.42.2.17.1.1, encoded.
const KEY_PROTECTOR: [u8; 12] = [6, 10, 0x2b, 6, 1, 4, 1, 0x2a, 2, 0x11, 1, 1];

/// The most entries of a file, and the most certificates of a key.
const ENTRIES_MAX: u32 = 10_000;

/// What a file holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// Keys (PKCS #8) with the certificates of each, its own first.
    pub keys: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
    /// Certificates that are trusted.
    pub trusted: Vec<Vec<u8>>,
}

/// Reads a file. An error says what is wrong with it.
pub fn read(file: &[u8], password: &str) -> Result<Contents, &'static str> {
    const CUT: &str = "the key store is cut short";
    let password: Vec<u8> = password.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let (body, digest) = file.split_last_chunk::<DIGEST_SIZE>().ok_or(CUT)?;
    if Sha1::new().chain_update(&password).chain_update(WHITENER).chain_update(body).finalize()[..]
        != digest[..]
    {
        return Err("the key store is damaged, or its password is another");
    }
    let mut bytes = Bytes(body);
    let (magic, version) = (bytes.u32().ok_or(CUT)?, bytes.u32().ok_or(CUT)?);
    if magic.to_be_bytes() != MAGIC || !(1..=2).contains(&version) {
        return Err("not a JKS key store of version 1 or 2");
    }
    let count = bytes.count().ok_or(CUT)?;
    let mut contents = Contents::default();
    for _ in 0..count {
        let kind = bytes.u32().ok_or(CUT)?;
        // Its name and its date.
        bytes.short_text().and_then(|_| bytes.take(8)).ok_or(CUT)?;
        match kind {
            1 => {
                let protected = bytes.long().ok_or(CUT)?;
                let key = unprotect(protected, &password)?;
                let count = bytes.count().ok_or(CUT)?;
                let chain = (0..count).map(|_| bytes.certificate(version).map(<[u8]>::to_vec));
                contents.keys.push((key, chain.collect::<Option<_>>().ok_or(CUT)?));
            }
            2 => contents.trusted.push(bytes.certificate(version).ok_or(CUT)?.to_vec()),
            _ => return Err("the key store has an entry of a kind that is not known"),
        }
    }
    Ok(contents)
}

/// Takes the protection off a key: a stream of digests, each of the password and the one before,
/// beginning with a salt, lies over it, and a digest of the key stands behind.
fn unprotect(info: &[u8], password: &[u8]) -> Result<Vec<u8>, &'static str> {
    const MALFORMED: &str = "a key's protection is not Java's";
    let (body, _) = element(info, 0x30).ok_or(MALFORMED)?;
    let (algorithm, rest) = element(body, 0x30).ok_or(MALFORMED)?;
    let (protected, _) = element(rest, 0x04).ok_or(MALFORMED)?;
    if !algorithm.starts_with(&KEY_PROTECTOR) {
        return Err(MALFORMED);
    }
    let (salt, rest) = protected.split_first_chunk::<DIGEST_SIZE>().ok_or(MALFORMED)?;
    let (hidden, check) = rest.split_last_chunk::<DIGEST_SIZE>().ok_or(MALFORMED)?;
    let mut key = hidden.to_vec();
    let mut digest: [u8; DIGEST_SIZE] = *salt;
    for piece in key.chunks_mut(DIGEST_SIZE) {
        digest = Sha1::new().chain_update(password).chain_update(digest).finalize().into();
        for (byte, mask) in piece.iter_mut().zip(digest) {
            *byte ^= mask;
        }
    }
    if Sha1::new().chain_update(password).chain_update(&key).finalize()[..] != check[..] {
        return Err("a key in the key store has another password than the store");
    }
    Ok(key)
}

/// The content of the DER element at the beginning, which must have this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
        if digits.len() > 3 {
            return None;
        }
        (digits.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
    };
    if first == tag { rest.split_at_checked(length) } else { None }
}

/// What is left to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    fn count(&mut self) -> Option<u32> {
        self.u32().filter(|count| *count <= ENTRIES_MAX)
    }

    fn short_text(&mut self) -> Option<&'a [u8]> {
        let size = self.take(2)?.try_into().ok().map(u16::from_be_bytes)?;
        self.take(size.into())
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let size = self.u32()?;
        self.take(usize::try_from(size).ok()?)
    }

    fn certificate(&mut self, version: u32) -> Option<&'a [u8]> {
        if version == 2 {
            self.short_text()?;
        }
        self.long()
    }
}
