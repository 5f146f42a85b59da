//! Workloads that a fuzzer writes, with the power cut in them: see `tests/crash/main.rs`.

#![no_main]

#[path = "../../tests/crash/campaign.rs"]
mod campaign;
#[path = "../../tests/disk/mod.rs"]
mod disk;
mod script;
#[path = "../../tests/crash/simulated.rs"]
mod simulated;

use arbitrary::{Result, Unstructured};
use campaign::Trace;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Input that is too short for a workload tells nothing.
    let _ = cut(&mut Unstructured::new(bytes));
});

fn cut(input: &mut Unstructured<'_>) -> Result<()> {
    let images: [u64; 6] = input.arbitrary()?;
    // Which sync fails, in one of four.
    let failing = if input.ratio(1, 4)? { Some(input.int_in_range(0..=40)?) } else { None };
    let workload = script::workload(input)?;
    let trace = Trace::record(&workload, failing).unwrap_or_else(|e| panic!("{e}\n{workload:#?}"));
    // There may be fewer syncs.
    let Some(trace) = trace else { return Ok(()) };
    for image in images {
        campaign::replay(&trace, image)
            .unwrap_or_else(|e| panic!("image {image:#x} of {}: {e}\n{workload:#?}", trace.name));
    }
    Ok(())
}
