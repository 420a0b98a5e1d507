//! Dice that fall the same way for the same seed (SplitMix64).

/// One sequence of draws.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// A sequence of its own for every list of numbers.
    pub fn of(numbers: &[u64]) -> Self {
        let mut chance = Self(0x6d6c_7873_7570);
        for number in numbers {
            chance.0 ^= *number;
            chance.0 = chance.next();
        }
        chance
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// True with this probability.
    pub fn happens(&mut self, probability: f64) -> bool {
        // 32 bits fit a float exactly.
        let draw = f64::from(u32::try_from(self.next() >> 32).unwrap_or(0)) / 4_294_967_296.0;
        draw < probability
    }

    /// From 0 to `limit` - 1.
    pub fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(self.next() % u64::from(limit.max(1))).unwrap_or(0)
    }
}
