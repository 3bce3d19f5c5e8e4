//! A multi is done whole or not at all (Z11): two nodes that are only written together hold the
//! same data, in every state and in every answer.

use super::{Check, violation};

/// The nodes that are only written together.
pub const PAIR: [&str; 2] = ["/pair/a", "/pair/b"];

/// The data of both as one state shows them.
pub fn check(who: &str, zxid: i64, data: [Option<&[u8]>; 2]) -> Check {
    let [one, other] = data;
    if one == other {
        return Ok(());
    }
    let text = |data: Option<&[u8]>| data.map(|data| String::from_utf8_lossy(data).into_owned());
    let what = format!("{who} at zxid {zxid}: {:?} and {:?}", text(one), text(other));
    Err(violation("multi_atomicity", what))
}
