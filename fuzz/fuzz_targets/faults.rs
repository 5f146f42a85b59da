//! Workloads that a fuzzer writes, with operations on files that fail: see `tests/faults.rs`.

#![no_main]

#[path = "../../tests/disk/mod.rs"]
mod disk;
mod script;

use std::path::Path;
use std::sync::Arc;

use arbitrary::{Arbitrary, Result, Unstructured};
use disk::observer::{Disk, Fault, KINDS};
use disk::play::{End, History, play};
use disk::workload::Workload;
use disk::{oracle, scratch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Input that is too short for a workload tells nothing.
    let _ = fail(&mut Unstructured::new(bytes));
});

#[derive(Debug, Arbitrary)]
struct Choice {
    kind: u8,
    n: u16,
    how: u8,
    lasting: bool,
}

fn fail(input: &mut Unstructured<'_>) -> Result<()> {
    let choices: [Choice; 4] = input.arbitrary()?;
    let end = if input.arbitrary()? { End::Close } else { End::Drop };
    let workload = script::workload(input)?;
    // Without a fault, to count what there is to fail.
    let (disk, _) = run(&workload, None, end, |_, _| Ok(()));
    for Choice { kind, n, how, lasting } in choices {
        let kind = KINDS[usize::from(kind) % KINDS.len()];
        let (operations, ways) = (disk.count(kind), kind.ways());
        if operations == 0 {
            continue;
        }
        let fault =
            Fault { kind, n: usize::from(n) % operations, lasting, how: ways[usize::from(how) % ways.len()] };
        let (disk, _) = run(&workload, Some(fault), end, |path, history| {
            oracle::judge(path, history, &history.allowed_at_the_end()).map(drop)
        });
        assert!(disk.was_met(), "{fault:?} was never met in\n{workload:#?}");
    }
    Ok(())
}

fn run(
    workload: &Workload,
    fault: Option<Fault>,
    end: End,
    judge: impl Fn(&Path, &History) -> std::result::Result<(), String>,
) -> (Arc<Disk>, History) {
    let home = scratch();
    let path = home.path().join("app.nestling");
    let disk = Arc::new(Disk::failing(path.clone(), fault));
    let history = play(workload, &path, &disk, end).and_then(|history| {
        judge(&path, &history)?;
        Ok(history)
    });
    let history = history.unwrap_or_else(|e| panic!("{e}\n{fault:?}, {end:?}\n{workload:#?}"));
    (disk, history)
}
