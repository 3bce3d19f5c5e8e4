//! The zigzag variable-length integers inside of records (those of Protocol Buffers): seven bits a
//! byte, lowest first, the highest bit says that more follow. The wire's unsigned lengths are
//! `wire.rs`'s own.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

/// The most bytes of a 32-bit varint.
pub const VARINT_SIZE_MAX: usize = 5;
/// The most bytes of a 64-bit varint.
pub const VARLONG_SIZE_MAX: usize = 10;

/// Appends `value` in 1 to 5 bytes.
pub fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_varlong(out, i64::from(value));
}

/// Appends `value` in 1 to 10 bytes.
pub fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut bits = zigzag(value);
    while bits >= 0x80 {
        out.push(low_byte(bits) | 0x80);
        bits >>= 7;
    }
    out.push(low_byte(bits));
}

/// How many bytes [`put_varint`] appends.
pub fn varint_size(value: i32) -> usize {
    varlong_size(i64::from(value))
}

/// How many bytes [`put_varlong`] appends.
pub fn varlong_size(value: i64) -> usize {
    // Seven bits a byte, and one byte for zero.
    let significant_bits = u64::BITS - (zigzag(value) | 1).leading_zeros();
    usize::try_from(significant_bits.div_ceil(7)).unwrap_or(VARLONG_SIZE_MAX)
}

/// Decodes a 32-bit varint whose bytes come from `next_byte`. `None` if the bytes end, or if they
/// say more than 32 bits.
#[inline]
pub fn read_varint(next_byte: impl FnMut() -> Option<u8>) -> Option<i32> {
    i32::try_from(read_bits(VARINT_SIZE_MAX, next_byte).map(unzigzag)?).ok()
}

/// As [`read_varint`], with 64 bits.
#[inline]
pub fn read_varlong(next_byte: impl FnMut() -> Option<u8>) -> Option<i64> {
    read_bits(VARLONG_SIZE_MAX, next_byte).map(unzigzag)
}

/// Takes a 32-bit varint off the beginning of `bytes`. `None` as [`read_varint`].
#[inline]
pub fn take_varint(bytes: &mut &[u8]) -> Option<i32> {
    read_varint(|| take_byte(bytes))
}

/// Takes a 64-bit varint off the beginning of `bytes`. `None` as [`read_varint`].
#[inline]
pub fn take_varlong(bytes: &mut &[u8]) -> Option<i64> {
    read_varlong(|| take_byte(bytes))
}

#[inline]
fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (&first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(first)
}

#[inline]
fn read_bits(size_max: usize, mut next_byte: impl FnMut() -> Option<u8>) -> Option<u64> {
    let mut bits = 0u64;
    for index in 0..size_max {
        let byte = next_byte()?;
        let shift = 7 * index;
        let seven = u64::from(byte & 0x7f);
        if shift == 63 && seven > 1 {
            return None;
        }
        bits |= seven << shift;
        if byte < 0x80 {
            return Some(bits);
        }
    }
    None
}

#[inline]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[inline]
fn unzigzag(bits: u64) -> i64 {
    (bits >> 1).cast_signed() ^ -((bits & 1).cast_signed())
}

#[inline]
fn low_byte(bits: u64) -> u8 {
    bits.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (8191, &[0xfe, 0x7f]),
            (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ] {
            let mut encoded = Vec::new();
            put_varint(&mut encoded, value);
            assert_eq!(encoded, bytes);
            assert_eq!(varint_size(value), bytes.len());
            assert_eq!(take_varint(&mut &bytes[..]), Some(value));
        }
    }

    #[test]
    fn all_widths_survive() {
        for shift in 0..64 {
            let bit = i64::MIN >> (63 - shift);
            for value in [bit, !bit] {
                let mut encoded = Vec::new();
                put_varlong(&mut encoded, value);
                assert_eq!(varlong_size(value), encoded.len());
                let mut rest = &encoded[..];
                assert_eq!(take_varlong(&mut rest), Some(value));
                assert!(rest.is_empty());
                assert_eq!(take_varlong(&mut &encoded[..encoded.len() - 1]), None);
            }
        }
    }

    #[test]
    fn too_many_bits_are_refused() {
        assert_eq!(take_varint(&mut &[0x80, 0x80, 0x80, 0x80, 0x10][..]), None, "33 bits");
        assert_eq!(take_varint(&mut &[0x80; 6][..]), None, "no end");
        assert_eq!(take_varlong(&mut &[0xff; 11][..]), None, "no end");
        let mut bits = [0xff; 10];
        bits[9] = 0x02;
        assert_eq!(take_varlong(&mut &bits[..]), None, "65 bits");
    }
}
