//! Pure: how long who reads and writes has to wait to keep to a number of bytes in a second.

/// What was used of the allowance. Each use is paid for after it.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    bytes_per_second: u64,
    /// Until then all bytes are paid for.
    paid_until_micros: u64,
}

impl Allowance {
    /// So many bytes in a second.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), paid_until_micros: 0 }
    }

    /// Takes note of bytes, and says how many microseconds to wait now.
    pub fn spend(&mut self, bytes: u64, now_micros: u64) -> u64 {
        let cost = u128::from(bytes) * 1_000_000 / u128::from(self.bytes_per_second);
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        self.paid_until_micros = self.paid_until_micros.max(now_micros).saturating_add(cost);
        self.paid_until_micros.saturating_sub(now_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_paid_for_with_time() {
        let mut allowance = Allowance::new(1000);
        assert_eq!(allowance.spend(500, 7_000_000), 500_000);
        assert_eq!(allowance.spend(100, 7_000_000), 600_000);
        assert_eq!(allowance.spend(0, 7_600_000), 0);
        assert_eq!(allowance.spend(100, 90_000_000), 100_000, "nothing is saved up");
        assert_eq!(Allowance::new(0).spend(1, 0), 1_000_000);
    }
}
