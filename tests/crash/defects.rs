//! The proof that the simulation can fail: each defect, taken out of a trace or built into the store, is found.

use crate::campaign::{self, Trace, Violation};
use crate::disk::observer::{Entry, Op};
use crate::disk::workload;

/// How many images a defect may take to be found.
const IMAGES: usize = 4_000;

/// Which syncs of a trace a defect leaves out.
fn without(name: &str, is_left_out: impl Fn(&Op) -> bool) {
    let mut traces: Vec<Trace> = workload::all()
        .iter()
        .map(|workload| Trace::record(workload, None).unwrap().expect("no fault has to be met"))
        .collect();
    for Entry { op, .. } in traces.iter_mut().flat_map(|trace| &mut trace.entries) {
        if is_left_out(op) {
            *op = Op::Ignored;
        }
    }
    found(name, &traces);
}

fn found(name: &str, traces: &[Trace]) {
    let (counts, violation) = campaign::run(traces, IMAGES, 1);
    let Some(Violation { what, .. }) = violation else {
        panic!("{name}: not found in {} images", counts.total());
    };
    println!("{name}: found after {} images: {}", counts.total(), what.lines().next().unwrap_or(""));
}

#[test]
fn the_defect_of_segments_that_are_not_synced_is_found() {
    without("segments are not synced", |op| matches!(op, Op::Sync(file) if file.ends_with(".vectors")));
}

#[test]
fn the_defect_of_a_directory_that_is_not_synced_is_found() {
    without("the directory is not synced", |op| matches!(op, Op::SyncDirectory));
}

#[test]
fn the_defect_of_a_parent_directory_that_is_not_synced_is_found() {
    without("the parent directory is not synced", |op| matches!(op, Op::SyncParent));
}

#[test]
fn the_defect_of_a_store_file_that_is_not_synced_is_found() {
    without("redb's file is not synced", |op| matches!(op, Op::Sync(file) if file.starts_with("store.redb")));
}
