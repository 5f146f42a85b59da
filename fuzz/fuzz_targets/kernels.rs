//! Every distance kernel that this CPU has against naive twins, at every length, alignment and value.
//!
//! What agreement means is told in `src/distance/tests.rs`: sums of codes are equal, f32 sums lie within d · ε · Σ|terms|.

#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use nestling::fuzzing::Kernels;

const LONGEST: u16 = 1100;

fuzz_target!(|bytes: &[u8]| {
    // Input that is too short for two vectors tells nothing.
    let _ = compare(&mut Unstructured::new(bytes));
});

fn compare(input: &mut Unstructured<'_>) -> Result<()> {
    let lengths = [input.int_in_range(0..=LONGEST)?, input.int_in_range(0..=LONGEST)?].map(usize::from);
    // Of one length, as a rule.
    let lengths = if input.ratio(1, 8)? { lengths } else { [lengths[0]; 2] };
    let offsets = [input.int_in_range(0..=15)?, input.int_in_range(0..=15)?];
    let stretched = input.arbitrary()?;
    let bytes = input.bytes(input.len())?;
    if bytes.is_empty() {
        return Ok(());
    }
    let mut source = bytes.iter().copied().cycle();
    let mut buffer = |len: usize| source.by_ref().take(len).collect::<Vec<u8>>();
    let codes = [0, 1].map(|i| buffer(offsets[i] + lengths[i]));
    let [a, b] = [0, 1].map(|i| &codes[i][offsets[i]..]);
    compare_codes(a, b);
    let floats = [0, 1].map(|i| {
        let bytes = buffer(4 * (offsets[i] + lengths[i]));
        let bits = |word: &[u8; 4]| u32::from_le_bytes(*word);
        // Bits as they come are mostly extreme; the others are of one magnitude.
        let float =
            |word: &[u8; 4]| if stretched { f32::from_bits(bits(word)) } else { bits(word) as i32 as f32 };
        bytes.as_chunks().0.iter().map(float).collect::<Vec<f32>>()
    });
    let [a, b] = [0, 1].map(|i| &floats[i][offsets[i]..]);
    compare_floats(a, b);
    Ok(())
}

fn compare_codes(a: &[u8], b: &[u8]) {
    let seven_bit = |codes: &[u8]| codes.iter().map(|code| code & 127).collect::<Vec<u8>>();
    let (clean_a, clean_b) = (seven_bit(a), seven_bit(b));
    let expected: u32 = clean_a.iter().zip(&clean_b).map(|(&x, &y)| u32::from(x) * u32::from(y)).sum();
    for kernels in Kernels::available() {
        assert_eq!(kernels.dot_codes(&clean_a, &clean_b), expected, "{}", kernels.name());
        // Of bytes that are no codes the sum means nothing.
        kernels.dot_codes(a, b);
    }
}

fn compare_floats(a: &[f32], b: &[f32]) {
    let length = a.len().min(b.len());
    let terms = |term: fn(f64, f64) -> f64| -> Vec<f64> {
        a.iter().zip(b).map(|(&x, &y)| term(f64::from(x), f64::from(y))).collect()
    };
    let (products, squares) = (terms(|x, y| x * y), terms(|x, y| (x - y) * (x - y)));
    for kernels in Kernels::available() {
        for (what, found, terms) in
            [("dot", kernels.dot(a, b), &products), ("squared_l2", kernels.squared_l2(a, b), &squares)]
        {
            let context = || format!("{} {what}, length {length}: {found}", kernels.name());
            if terms.iter().any(|term| term.is_nan()) {
                assert!(found.is_nan(), "{} where a term is none", context());
                continue;
            }
            let magnitude: f64 = terms.iter().map(|term| term.abs()).sum();
            let n = (length + 2) as f64;
            let bound = n * f64::from(f32::EPSILON) * magnitude + n * f64::from(f32::from_bits(1));
            if magnitude.is_infinite() {
                assert!(!found.is_finite(), "{} where a term is infinite", context());
            } else if magnitude + bound <= f64::from(f32::MAX) {
                let expected: f64 = terms.iter().sum();
                let off = (f64::from(found) - expected).abs();
                assert!(off <= bound, "{} instead of {expected} ± {bound}", context());
            }
        }
    }
}
