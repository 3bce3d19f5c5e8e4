//! What a broker does with a frame from a stranger: the header, then the body by key and version.
//! What was decoded must survive being written and read again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ottla_common::kafka::messages::{self, ApiKey};
use ottla_common::kafka::request::decode_header;
use ottla_common::kafka::wire::{Decode, Encode, Reader};

fn round_trip<T: Decode + Encode>(reader: &mut Reader, version: i16) {
    let Ok(message) = T::decode(reader, version) else { return };
    let bytes = message.to_bytes(version).expect("what was decoded can be encoded");
    let again = T::decode(&mut Reader::new(bytes.clone()), version).expect("and decoded again");
    assert_eq!(again.to_bytes(version).expect("and encoded"), bytes);
}

macro_rules! by_key {
    ($(($name:ident, $module:ident, $request:ident, $response:ident))*) => {
        fn decode_body(key: ApiKey, version: i16, reader: &mut Reader) {
            match key {
                $(ApiKey::$name => {
                    round_trip::<messages::$module::$request>(reader, version);
                })*
            }
        }
    };
}

ottla_common::for_each_api!(by_key);

fuzz_target!(|data: &[u8]| {
    let mut reader = Reader::new(Bytes::copy_from_slice(data));
    let Ok(header) = decode_header(&mut reader) else { return };
    if !header.unsupported_api_versions {
        decode_body(header.api_key, header.api_version, &mut reader);
    }
});
