//! ZooKeeper's four-letter words.

/// All words.
pub const WORDS: [&str; 18] = [
    "conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "hash", "isro", "mntr", "ruok", "srst",
    "srvr", "stat", "stmk", "wchc", "wchp", "wchs",
];

/// Whether a connection begins with a word; none while too little was read to tell.
pub fn is_word(read: &[u8]) -> Option<bool> {
    let (word, is_whole) = match read.split_at_checked(4) {
        Some((word, _)) => (word, true),
        None => (read, false),
    };
    let may_be_one = WORDS.iter().any(|known| known.as_bytes().starts_with(word));
    if may_be_one && !is_whole { None } else { Some(may_be_one) }
}
