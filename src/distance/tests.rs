//! Every kernel that this CPU has, against naive twins: u64 sums for codes, f64 sums for floats.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{InstructionSet, Kernel, dispatch};

/// Covers every number of whole blocks that a kernel treats apart, each with every remainder.
const MAX_LENGTH: usize = 1025;
/// Where in a buffer the vectors start, so that they are aligned to nothing but their own elements.
const OFFSETS: std::ops::Range<usize> = 0..8;

fn naive_dot_codes(a: &[u8], b: &[u8]) -> u64 {
    a.iter().zip(b).map(|(&x, &y)| u64::from(x) * u64::from(y)).sum()
}

fn naive_dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

fn naive_absolute_dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| (f64::from(x) * f64::from(y)).abs()).sum()
}

fn naive_squared_l2(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum()
}

/// How far an f32 sum of `length` terms may lie from the true one, where the terms' magnitudes add up to
/// `magnitude`.
///
/// Each term goes through at most `length` + 2 roundings (two count for a squared difference, one for the product,
/// `length` − 1 for the additions), each within ε/2 of its result, in whatever order: γₙ = n·(ε/2) / (1 − n·(ε/2))
/// of the magnitude, which is below n·ε for such n (Higham, § 3.1). A product may also underflow, by at most the
/// smallest denormal.
fn bound(length: usize, magnitude: f64) -> f64 {
    let n = (length + 2) as f64;
    n * f64::from(f32::EPSILON) * magnitude + n * f64::from(f32::from_bits(1))
}

/// Checks both f32 kernels of a set on one pair of vectors.
#[track_caller]
fn check_floats(set: InstructionSet, a: &[f32], b: &[f32]) {
    let length = a.len().min(b.len());
    let cases = [
        ("dot", set.dot(a, b), naive_dot(a, b), naive_absolute_dot(a, b)),
        ("squared_l2", set.squared_l2(a, b), naive_squared_l2(a, b), naive_squared_l2(a, b)),
    ];
    for (kernel, actual, expected, magnitude) in cases {
        let bound = bound(length, magnitude);
        if magnitude + bound > f64::from(f32::MAX) {
            continue; // It may overflow: to an infinity, or to NaN where infinities of both signs meet.
        }
        assert!(
            (f64::from(actual) - expected).abs() <= bound,
            "{} {kernel}, length {length}: {actual} instead of {expected} ± {bound}",
            set.name(),
        );
    }
}

/// Pairs of buffers of codes: random, and those that reach the extremes of every intermediate sum.
fn code_buffers(rng: &mut StdRng) -> Vec<(Vec<u8>, Vec<u8>)> {
    let length = MAX_LENGTH + OFFSETS.end;
    let mut random = || (0..length).map(|_| rng.random_range(0..=127)).collect::<Vec<u8>>();
    let alternating: Vec<u8> = (0..length).map(|i| if i % 2 == 0 { 127 } else { 0 }).collect();
    vec![
        (random(), random()),
        (vec![0; length], random()),
        (vec![127; length], vec![127; length]),
        (alternating.clone(), vec![127; length]),
        (alternating, random()),
    ]
}

/// Pairs of buffers of floats: random ones of several magnitudes, and values at the edges of the format.
fn float_buffers(rng: &mut StdRng) -> Vec<(Vec<f32>, Vec<f32>)> {
    let length = MAX_LENGTH + OFFSETS.end;
    let mut random =
        |scale: f32| (0..length).map(|_| rng.random_range(-1.0..=1.0) * scale).collect::<Vec<f32>>();
    let mut buffers: Vec<_> = [1.0, 1e17, 1e19, f32::MAX, 1e-19, f32::MIN_POSITIVE, 1e-44]
        .into_iter()
        .map(|scale| (random(scale), random(scale)))
        .collect();
    let cancelling: Vec<f32> = (0..length).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let mixed: Vec<f32> = (0..length).map(|i| [1e15, -1e-15, 3.0, -0.0, 1e-40][i % 5]).collect();
    buffers.extend([
        (random(1e17), random(1e-17)),
        (vec![-0.0; length], random(1.0)),
        (vec![0.0; length], vec![-0.0; length]),
        (vec![f32::from_bits(1); length], vec![1.0; length]),
        (cancelling, vec![1.0 / 3.0; length]),
        (mixed, random(1.0)),
    ]);
    buffers
}

#[test]
fn dot_codes_is_exact_at_every_length() {
    let buffers = code_buffers(&mut StdRng::seed_from_u64(1));
    for set in InstructionSet::available() {
        for (a, b) in &buffers {
            for length in 0..=MAX_LENGTH {
                let (a, b) = (&a[..length], &b[..length]);
                assert_eq!(
                    u64::from(set.dot_codes(a, b)),
                    naive_dot_codes(a, b),
                    "{}, length {length}",
                    set.name()
                );
            }
        }
    }
}

#[test]
fn dot_codes_is_exact_at_every_offset() {
    let buffers = code_buffers(&mut StdRng::seed_from_u64(2));
    for set in InstructionSet::available() {
        for (a, b) in &buffers {
            for length in (0..300).chain([384, 1000, MAX_LENGTH]) {
                for (i, j) in OFFSETS.flat_map(|i| OFFSETS.map(move |j| (i, j))) {
                    let (a, b) = (&a[i..i + length], &b[j..j + length]);
                    assert_eq!(
                        u64::from(set.dot_codes(a, b)),
                        naive_dot_codes(a, b),
                        "{}, length {length}, offsets {i} and {j}",
                        set.name()
                    );
                }
            }
        }
    }
}

#[test]
fn dot_codes_is_exact_for_the_longest_vectors() {
    let codes = vec![127; 65_535];
    for set in InstructionSet::available() {
        assert_eq!(
            u64::from(set.dot_codes(&codes, &codes)),
            naive_dot_codes(&codes, &codes),
            "{}",
            set.name()
        );
    }
}

#[test]
fn floats_are_within_the_bound_at_every_length() {
    let buffers = float_buffers(&mut StdRng::seed_from_u64(3));
    for set in InstructionSet::available() {
        for (a, b) in &buffers {
            for length in 0..=MAX_LENGTH {
                check_floats(set, &a[..length], &b[..length]);
                check_floats(set, &a[..length], &a[..length]);
            }
        }
    }
}

#[test]
fn floats_are_within_the_bound_at_every_offset() {
    let buffers = float_buffers(&mut StdRng::seed_from_u64(4));
    for set in InstructionSet::available() {
        for (a, b) in &buffers {
            for length in (0..80).chain([384, MAX_LENGTH]) {
                for (i, j) in OFFSETS.flat_map(|i| OFFSETS.map(move |j| (i, j))) {
                    check_floats(set, &a[i..i + length], &b[j..j + length]);
                }
            }
        }
    }
}

/// The bound grows with the length, so that a long vector could hide one element counted twice or not at all.
/// Small integers leave no rounding to hide behind.
#[test]
fn floats_are_exact_for_small_integers() {
    let mut rng = StdRng::seed_from_u64(5);
    let mut random = || (0..MAX_LENGTH).map(|_| rng.random_range(-50..=50) as f32).collect::<Vec<f32>>();
    let (a, b) = (random(), random());
    for set in InstructionSet::available() {
        for length in 0..=MAX_LENGTH {
            let (a, b) = (&a[..length], &b[..length]);
            assert_eq!(f64::from(set.dot(a, b)), naive_dot(a, b), "{}, length {length}", set.name());
            assert_eq!(
                f64::from(set.squared_l2(a, b)),
                naive_squared_l2(a, b),
                "{}, length {length}",
                set.name()
            );
        }
    }
}

#[test]
fn the_shorter_of_two_slices_decides() {
    let mut rng = StdRng::seed_from_u64(6);
    for set in InstructionSet::available() {
        for _ in 0..500 {
            let lengths = [rng.random_range(0..=400), rng.random_range(0..=400)];
            let [a, b] = lengths.map(|n| (0..n).map(|_| rng.random_range(0..=127)).collect::<Vec<u8>>());
            assert_eq!(u64::from(set.dot_codes(&a, &b)), naive_dot_codes(&a, &b), "{}", set.name());
            let [a, b] = lengths.map(|n| (0..n).map(|_| rng.random_range(-1.0..=1.0)).collect::<Vec<f32>>());
            check_floats(set, &a, &b);
        }
    }
}

#[test]
fn codes_beyond_7_bits_do_no_harm() {
    let buffer = vec![255; 70_000];
    for set in InstructionSet::available() {
        for length in (0..=MAX_LENGTH).chain([65_535, 70_000]) {
            set.dot_codes(&buffer[..length], &buffer[..length]);
        }
    }
}

#[test]
fn infinities_and_nans_propagate() {
    for set in InstructionSet::available() {
        for length in 1..=MAX_LENGTH {
            let ones = vec![1.0; length];
            let mut other = ones.clone();
            let position = length / 3;
            other[position] = f32::NAN;
            assert!(set.dot(&ones, &other).is_nan(), "{}, length {length}", set.name());
            assert!(set.squared_l2(&ones, &other).is_nan(), "{}, length {length}", set.name());
            other[position] = f32::NEG_INFINITY;
            assert_eq!(set.dot(&ones, &other), f32::NEG_INFINITY, "{}, length {length}", set.name());
            assert_eq!(set.squared_l2(&ones, &other), f32::INFINITY, "{}, length {length}", set.name());
        }
    }
}

#[test]
fn empty_vectors_have_sum_zero() {
    for set in InstructionSet::available() {
        assert_eq!(set.dot_codes(&[], &[]), 0);
        assert_eq!(set.dot(&[], &[]), 0.0);
        assert_eq!(set.squared_l2(&[], &[]), 0.0);
    }
}

#[test]
fn prefetch_takes_any_slice() {
    let bytes = vec![0; 1000];
    for set in InstructionSet::available() {
        for (start, end) in [(0, 0), (0, 1), (63, 65), (1, 1000), (1000, 1000)] {
            dispatch!(set, kernel => kernel.prefetch(&bytes[start..end]));
        }
    }
}

#[test]
fn a_forced_name_is_chosen_and_a_bad_one_ignored() {
    let available = InstructionSet::available();
    for &set in &available {
        assert_eq!(InstructionSet::choose(Some(set.name())), set);
    }
    for name in [None, Some(""), Some("AVX2"), Some("quantum")] {
        assert_eq!(InstructionSet::choose(name), available[0]);
    }
    assert_eq!(available.last(), Some(&InstructionSet::Scalar));
}

#[test]
fn the_best_is_available() {
    assert!(InstructionSet::available().contains(&InstructionSet::best()));
}
