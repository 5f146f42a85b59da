//! Levels: a geometric distribution, decided by seed and stamp alone.

/// No node rises above this; with m = 2 a level this high has probability 2⁻³¹.
pub(crate) const MAX_LEVEL: u8 = 31;

/// The level of the node with this stamp: P(level ≥ l) = m⁻ˡ, the distribution of the paper's ⌊−ln(u) / ln(m)⌋.
///
/// A graph must come out the same on every platform and with every version of every dependency, so the randomness is a
/// fixed mixing function (SplitMix64, Steele et al., 2014) and the distribution is drawn in integers.
pub(crate) fn level(seed: u64, stamp: u64, m: usize) -> u8 {
    let mut state = mix(seed) ^ stamp.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut level = 0;
    while level < MAX_LEVEL {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        // The high half of a 64 × 64 bit product: uniform in 0..m.
        if (u128::from(mix(state)) * m as u128) >> 64 != 0 {
            break;
        }
        level += 1;
    }
    level
}

/// SplitMix64's mixing function.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_the_distribution() {
        for m in [2, 16, 128] {
            let n = 1_000_000_u64;
            let mut at_least = [0_u64; 4];
            for stamp in 0..n {
                let level = level(5, stamp, m);
                for count in at_least.iter_mut().take(usize::from(level) + 1) {
                    *count += 1;
                }
            }
            for (l, &count) in at_least.iter().enumerate() {
                let expected = n as f64 * (m as f64).powi(-(l as i32));
                let deviation = expected.sqrt().max(1.0) * 5.0;
                assert!((count as f64 - expected).abs() < deviation, "m {m}, level {l}: {count}, {expected}");
            }
        }
    }

    #[test]
    fn levels_are_the_same_for_ever() {
        let levels: Vec<u8> = (0..24).map(|stamp| level(42, stamp, 4)).collect();
        assert_eq!(levels, [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 2, 1, 0, 0, 0, 1, 1, 2]);
    }
}
