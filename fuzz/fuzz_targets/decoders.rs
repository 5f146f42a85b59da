//! Every decoder of what is on disk: rows, entries of the journal, headers of segments, codes.
//!
//! Rows and headers come with a checksum that matches, which a fuzzer would not come by. What decodes must round trip.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nestling::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    match bytes {
        [kind @ 0..=8, content @ ..] => fuzzing::decode(*kind, content),
        [9, metric, content @ ..] => {
            let (words, rest) = content.as_chunks();
            let floats: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
            let (a, b) = floats.split_at(floats.len() / 2);
            fuzzing::code(*metric, rest.len() as u64, u64::from(*metric), [a, &b[..a.len()]]);
        }
        [_, content @ ..] => fuzzing::damaged_code(content),
        [] => {}
    }
});
