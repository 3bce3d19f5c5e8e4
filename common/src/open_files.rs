//! How many files a process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Lets the process have as many files open as it may allow itself. Shells and service managers
/// begin with a lower limit (often 1,024), for the sake of programs that use `select`; a partition
/// takes three files, and each connection is one.
pub fn allow_as_many_as_possible() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it cannot be, the limit stays as it was.
    let _ = setrlimit(Resource::Nofile, limit);
}
