//! The proof that the simulation can fail: each defect is found.
//!
//! Syncs can be taken out of a recorded trace, which is what the disk would see of a store that forgets them. The other defects
//! are in `src/io/defect.rs`, and only there when the crate is built for it:
//!
//! ```text
//! RUSTFLAGS="--cfg nestling_defects" CARGO_TARGET_DIR=target/defects cargo test --test crash defect -- --nocapture
//! ```

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
    let (counts, violation) = campaign::run(traces, IMAGES, 1, None);
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

/// Defects of the store itself.
#[cfg(nestling_defects)]
mod built_in {
    use nestling::Defect;

    use super::{Trace, found, workload};

    /// Records these workloads on a store with the defect. It may show already then; if not, it has to show in an image.
    fn with(defect: Defect, workloads: &[&str], failing_syncs: usize) {
        let mut traces = Vec::new();
        let chosen = workload::all().into_iter().filter(|workload| workloads.contains(&workload.name));
        for mut workload in chosen {
            workload.defect = Some(defect);
            match Trace::record_all(&workload, failing_syncs, 1) {
                Ok(recorded) => traces.extend(recorded),
                Err(e) => {
                    println!("{defect:?}: found without a crash: {e}");
                    return;
                }
            }
        }
        found(&format!("{defect:?}"), &traces);
    }

    #[test]
    fn the_defect_of_publishing_before_the_commit_is_found() {
        with(Defect::PublishBeforeCommit, &["updates", "tables alone"], 0);
    }

    #[test]
    fn the_defect_of_reusing_a_slot_in_its_freeing_transaction_is_found() {
        with(Defect::ReuseInFreeingTransaction, &["updates", "slot reuse"], 0);
    }

    #[test]
    fn the_defect_of_reusing_a_slot_under_a_snapshot_is_found() {
        with(Defect::ReuseUnderSnapshot, &["snapshots held while writing"], 0);
    }

    #[test]
    fn the_defect_of_folding_outside_of_a_transaction_is_found() {
        with(
            Defect::FoldOutsideOfTransaction,
            &["journal folding", "journal folding, one vector a commit"],
            0,
        );
    }

    #[test]
    fn the_defect_of_promoting_commits_after_a_failed_sync_is_found() {
        with(Defect::PromoteAfterFailedSync, &["not waiting", "segment growth without waiting"], 12);
    }
}
