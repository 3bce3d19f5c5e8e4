//! The codecs: round trips, hostile input, bombs.

use proptest::prelude::*;

use super::*;

const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn compress(codec: Compression, input: &[u8]) -> Bytes {
    let mut out = Vec::new();
    codec.compress(input, None, &mut out).unwrap();
    Bytes::from(out)
}

#[test]
fn names_and_numbers_are_kafkas() {
    for (id, name) in (0i16..).zip(["none", "gzip", "snappy", "lz4", "zstd"]) {
        let codec: Compression = name.parse().unwrap();
        assert_eq!(codec, Compression::from_id(id).unwrap());
        assert_eq!((codec.id(), codec.to_string()), (id, name.to_owned()));
    }
    assert!(Compression::from_id(5).is_err());
    assert!("brotli".parse::<Compression>().unwrap_err().to_string().contains("none, gzip"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_compressed_comes_back(
        runs in prop::collection::vec((any::<u8>(), 1usize..1_000), 0..100),
    ) {
        let input: Vec<u8> =
            runs.iter().flat_map(|&(byte, length)| std::iter::repeat_n(byte, length)).collect();
        for codec in Compression::ALL {
            let compressed = compress(codec, &input);
            prop_assert_eq!(&codec.decompress(&compressed, input.len()).unwrap()[..], &input[..]);
            if !input.is_empty() {
                let cut = codec.decompress(&compressed, input.len() - 1);
                let too_large = matches!(cut, Err(CompressionError::TooLarge { .. }));
                prop_assert!(too_large);
            }
        }
    }

    #[test]
    fn garbage_is_an_error_or_some_bytes_but_never_a_panic(
        input in prop::collection::vec(any::<u8>(), 0..300),
        codec in prop::sample::select(&CODECS[..]),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let _ = codec.decompress(&Bytes::from(input.clone()), 1 << 20);
        let mut mutated = compress(codec, &input).to_vec();
        let at = at.index(mutated.len());
        mutated[at] ^= flip;
        let output = codec.decompress(&Bytes::from(mutated), 1 << 20);
        prop_assert!(output.map_or(0, |output| output.len()) <= 1 << 20);
    }
}

#[test]
fn java_snappy_and_raw_snappy_are_read() {
    let input = b"the same bytes, the same bytes, the same bytes";
    let block = snap::raw::Encoder::new().compress_vec(input).unwrap();
    assert_eq!(
        &Compression::Snappy.decompress(&Bytes::from(block.clone()), 100).unwrap()[..],
        input
    );

    let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    framed.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
    framed.extend_from_slice(&block);
    assert_eq!(compress(Compression::Snappy, input), framed);
    let twice = Bytes::from([&framed[..], &framed].concat());
    assert_eq!(Compression::Snappy.decompress(&twice, 100).unwrap().len(), 2 * input.len());
}

#[test]
fn a_snappy_block_cannot_make_us_allocate() {
    // Promises 4 GiB less one in 5 bytes.
    let promise = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]);
    let error = Compression::Snappy.decompress(&promise, usize::MAX).unwrap_err();
    assert!(error.to_string().contains("promises more"), "{error}");
}

/// Small input that gives very much: decompression stops at the limit, and memory follows.
#[test]
fn a_decompression_bomb_stops_at_the_limit() {
    const LIMIT: usize = 1 << 20;
    let zeros = vec![0; 64 << 20];
    for codec in CODECS {
        let bomb = compress(codec, &zeros);
        let mut reader = codec.reader(&bomb, LIMIT).unwrap();
        let mut output = Vec::new();
        let error = reader.read_to_end(&mut output).unwrap_err();
        assert!(matches!(reader.describe(error), CompressionError::TooLarge { limit: LIMIT }));
        assert!(output.capacity() <= 2 * LIMIT, "{codec}: {} bytes", output.capacity());
        assert!(codec.decompress(&bomb, LIMIT).is_err());
    }
}

#[test]
fn a_zstandard_frame_cannot_ask_for_a_huge_window() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(30).unwrap();
    encoder.write_all(b"hello").unwrap();
    let frame = Bytes::from(encoder.finish().unwrap());
    assert!(matches!(
        Compression::Zstd.decompress(&frame, 1 << 20),
        Err(CompressionError::Corrupt { codec: Compression::Zstd, .. })
    ));
}
