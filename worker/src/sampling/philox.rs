//! Philox4x32-10, the counter-based generator of Salmon et al. (Random123).
//!
//! Owns the bijection from (key, counter) to 128 random bits; there is no state to save, which is what lets another
//! worker continue a sequence in the middle.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// The 128 bits that belong to `counter` under `key`.
pub(super) fn philox4x32(key: [u32; 2], counter: [u32; 4]) -> [u32; 4] {
    let mut key = key;
    let mut words = counter;
    for round in 0..ROUNDS {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let (high_0, low_0) = split(u64::from(MULTIPLIERS[0]) * u64::from(words[0]));
        let (high_1, low_1) = split(u64::from(MULTIPLIERS[1]) * u64::from(words[2]));
        words = [high_1 ^ words[1] ^ key[0], low_1, high_0 ^ words[3] ^ key[1], low_0];
    }
    words
}

/// High and low half of a product.
const fn split(product: u64) -> (u32, u32) {
    ((product >> 32) as u32, (product & 0xFFFF_FFFF) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that come with Random123 (`kat_vectors`, philox4x32 with 10 rounds).
    #[test]
    fn known_answers_hold() {
        let ones = u32::MAX;
        let known = [
            ([0; 2], [0; 4], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([ones; 2], [ones; 4], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0xa409_3822, 0x299f_31d0],
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (key, counter, bits) in known {
            assert_eq!(philox4x32(key, counter), bits, "key {key:x?}, counter {counter:x?}");
        }
    }
}
