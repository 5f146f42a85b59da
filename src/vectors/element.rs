//! How a vector's components are stored.
//!
//! ```text
//! F32    d × f32
//! F16    d × IEEE 754 binary16
//! I8     d × i8   cᵢ
//!        i8       e: component i is cᵢ · 2ᵉ
//! ```
//!
//! All little-endian. Everything else (codes, norms, distances, what is given back) is computed from what was stored, so that a
//! vector read and stored again stays as it is.

use std::borrow::Cow;

use crate::options::Element;

/// The least exponent of [`Element::I8`]: that of the least normal f32.
const LEAST_EXPONENT: i32 = -126;
const HALF_MAX: f32 = 65_504.0;

impl Element {
    /// Bytes of a vector.
    pub(crate) fn vector_len(self, dimension: usize) -> usize {
        match self {
            Element::F32 => 4 * dimension,
            Element::F16 => 2 * dimension,
            Element::I8 => dimension + 1,
        }
    }

    /// The bytes that stand for a vector, whose components are finite and in [range](Self::out_of_range).
    pub(crate) fn encode(self, vector: &[f32]) -> Vec<u8> {
        match self {
            Element::F32 => vector.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Element::F16 => vector.iter().flat_map(|&x| half_from_f32(x).to_le_bytes()).collect(),
            Element::I8 => {
                let exponent = exponent(vector);
                let step = power_of_two(-exponent);
                let rounded = vector.iter().map(|&x| (f64::from(x) * step).round_ties_even() as i8);
                rounded.chain([exponent as i8]).map(i8::cast_unsigned).collect()
            }
        }
    }

    /// The largest component.
    pub(crate) fn largest(self) -> f32 {
        match self {
            Element::F16 => HALF_MAX,
            Element::F32 | Element::I8 => f32::MAX,
        }
    }

    /// The first component that cannot be stored.
    pub(crate) fn out_of_range(self, vector: &[f32]) -> Option<(usize, f32)> {
        let rounds_to_infinity = |&(_, &x): &(usize, &f32)| x.abs() >= HALF_MAX + 16.0;
        match self {
            Element::F16 => vector.iter().enumerate().find(rounds_to_infinity).map(|(at, &x)| (at, x)),
            Element::F32 | Element::I8 => None,
        }
    }

    /// The vector as it will be stored.
    pub(crate) fn round(self, vector: &[f32]) -> Cow<'_, [f32]> {
        match self {
            Element::F32 => Cow::Borrowed(vector),
            Element::F16 | Element::I8 => {
                let mut rounded = vec![0.0; vector.len()];
                self.decode(&self.encode(vector), 0, &mut rounded);
                Cow::Owned(rounded)
            }
        }
    }

    /// Decodes the components from `first` on of the bytes of a whole vector.
    #[inline]
    pub(crate) fn decode(self, bytes: &[u8], first: usize, out: &mut [f32]) {
        match self {
            Element::F32 => {
                let words = bytes.as_chunks().0.iter().skip(first);
                out.iter_mut().zip(words).for_each(|(x, &word)| *x = f32::from_le_bytes(word));
            }
            Element::F16 => {
                let words = bytes.as_chunks().0.iter().skip(first);
                out.iter_mut().zip(words).for_each(|(x, &word)| *x = half_to_f32(u16::from_le_bytes(word)));
            }
            Element::I8 => {
                let Some((&exponent, components)) = bytes.split_last() else { return };
                let step = power_of_two(i32::from(exponent.cast_signed()).max(LEAST_EXPONENT)) as f32;
                let components = components.iter().skip(first);
                out.iter_mut().zip(components).for_each(|(x, &c)| *x = f32::from(c.cast_signed()) * step);
            }
        }
    }
}

/// The least e with which all components, as multiples of 2ᵉ, round to -128..=127.
fn exponent(vector: &[f32]) -> i32 {
    let largest = vector.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    // 64 · 2ᵉ ≤ largest < 128 · 2ᵉ; one less will do where the largest is -128, one more where it rounds to 128.
    let about = ((largest.to_bits() >> 23) as i32 - 127 - 6).max(LEAST_EXPONENT);
    let fits = |exponent: &i32| {
        let step = power_of_two(-exponent);
        vector.iter().all(|&x| (-128.5..127.5).contains(&(f64::from(x) * step)))
    };
    ((about - 1).max(LEAST_EXPONENT)..=about).find(fits).unwrap_or(about + 1)
}

/// 2ᵉ for the exponents of normal numbers.
#[inline]
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// Rounds to the nearest, ties to even; what is too large becomes infinite.
fn half_from_f32(x: f32) -> u16 {
    const LEAST_NORMAL: u32 = (127 - 14) << 23;
    let bits = x.to_bits();
    let (sign, magnitude) = ((bits >> 16) as u16 & 0x8000, bits & 0x7fff_ffff);
    let half = if magnitude >= 0x7f80_0000 {
        // Infinite, or not a number.
        0x7c00 | u32::from(magnitude > 0x7f80_0000) << 9
    } else if magnitude < LEAST_NORMAL {
        // From 0.5 to 1 floats are 2⁻²⁴ apart, as subnormal halves are: the addition rounds.
        (f32::from_bits(magnitude) + 0.5).to_bits() - 0.5_f32.to_bits()
    } else {
        let odd = magnitude >> 13 & 1;
        let rounded = (magnitude + 0xfff + odd) >> 13;
        (rounded - ((127 - 15) << 10)).min(0x7c00)
    };
    sign | half as u16
}

/// Branch-free, so that compilers vectorize it. Infinities, which are never stored, become finite.
#[inline]
fn half_to_f32(half: u16) -> f32 {
    // Exponent and mantissa, moved to their places, are the number but for the bias: also that of a subnormal one.
    const BIAS: f32 = f32::from_bits((127 + 127 - 15) << 23);
    let magnitude = f32::from_bits(u32::from(half & 0x7fff) << 13) * BIAS;
    f32::from_bits(magnitude.to_bits() | u32::from(half & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(element: Element, vector: &[f32]) -> Vec<f32> {
        assert_eq!(element.encode(vector).len(), element.vector_len(vector.len()));
        element.round(vector).into_owned()
    }

    #[test]
    fn every_finite_half_keeps_its_bits() {
        for half in (0..=u16::MAX).filter(|half| half & 0x7c00 != 0x7c00) {
            let x = half_to_f32(half);
            assert_eq!(half_from_f32(x), half, "{half:04x}: {x}");
            let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
            let (exponent, mantissa) = (i32::from(half >> 10 & 31), f64::from(half & 0x3ff));
            let expected = match exponent {
                0 => mantissa * 2.0_f64.powi(-24),
                _ => (1024.0 + mantissa) * 2.0_f64.powi(exponent - 25),
            };
            assert_eq!(f64::from(x), sign * expected, "{half:04x}");
        }
    }

    /// Between neighbours: below the middle down, above it up, in the middle to the even one.
    #[test]
    fn halves_are_the_nearest_with_ties_to_even() {
        for half in 0..0x7bff_u16 {
            let (low, high) = (half_to_f32(half), half_to_f32(half + 1));
            let middle = ((f64::from(low) + f64::from(high)) / 2.0) as f32;
            assert_eq!(half_from_f32(middle), half + half % 2, "the middle above {half:04x}");
            assert_eq!(half_from_f32(middle.next_down()), half);
            assert_eq!(half_from_f32(middle.next_up()), half + 1);
            assert_eq!(half_from_f32(-middle.next_up()), 0x8000 | (half + 1));
        }
        assert_eq!(half_from_f32(65_519.0), 0x7bff);
        assert_eq!(half_from_f32(65_520.0), 0x7c00);
        assert_eq!(half_from_f32(f32::MAX), 0x7c00);
        assert_eq!(half_from_f32(f32::NEG_INFINITY), 0xfc00);
    }

    #[test]
    fn what_does_not_fit_halves_is_told() {
        assert_eq!(Element::F16.out_of_range(&[1.0, -65_519.0]), None);
        assert_eq!(Element::F16.out_of_range(&[1.0, -65_520.0, 1e9]), Some((1, -65_520.0)));
        assert_eq!(Element::I8.out_of_range(&[1e18]), None);
    }

    #[test]
    fn bytes_are_stored_as_they_are() {
        let all: Vec<f32> = (-128..=127).map(|x| x as f32).collect();
        assert_eq!(stored(Element::I8, &all), all);
        for window in all.windows(3) {
            assert_eq!(stored(Element::I8, window), window);
        }
    }

    #[test]
    fn what_was_stored_is_stored_again_as_it_is() {
        let mut x = 0x9e37_79b9_u32;
        let mut next = || {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            f64::from(x) / f64::from(u32::MAX) - 0.5
        };
        for power in [-140, -126, -120, -30, -3, 0, 7, 14, 60] {
            for dimension in [1, 2, 7, 64] {
                let scale = 2.0_f64.powi(power);
                let vector: Vec<f32> = (0..dimension).map(|_| (next() * scale) as f32).collect();
                let largest = vector.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
                for element in [Element::F32, Element::F16, Element::I8] {
                    if element.out_of_range(&vector).is_some() {
                        continue;
                    }
                    let once = stored(element, &vector);
                    let bits = |vector: &[f32]| vector.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
                    assert_eq!(
                        bits(&stored(element, &once)),
                        bits(&once),
                        "{element}, 2^{power}, {vector:?}"
                    );
                    // A step of i8 is at most a 64th of the largest.
                    if element == Element::I8 && power > -119 {
                        let near = |(x, y): (&f32, &f32)| (x - y).abs() <= largest / 127.0;
                        assert!(once.iter().zip(&vector).all(near), "{vector:?}: {once:?}");
                    }
                }
            }
        }
        assert_eq!(stored(Element::I8, &[0.0, 0.0]), [0.0, 0.0]);
    }

    #[test]
    fn blocks_are_parts_of_the_whole() {
        let vector: Vec<f32> = (0..100).map(|i| i as f32 - 50.0).collect();
        for element in [Element::F32, Element::F16, Element::I8] {
            let bytes = element.encode(&vector);
            let mut out = [0.0; 30];
            element.decode(&bytes, 40, &mut out);
            assert_eq!(out, vector[40..70]);
        }
    }
}
