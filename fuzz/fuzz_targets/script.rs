//! Workloads as a fuzzer writes them: short scripts of the steps that `tests/disk/workload.rs` is made of.

use std::collections::BTreeSet;

use arbitrary::{Result, Unstructured};
use nestling::{Durability, VectorAccess};

use crate::disk::state::{Change, Space};
use crate::disk::workload::{BARE, COSINE, LARGE, NARROW, OTHER, SMALL, Step, Workload};

const MOST_STEPS: usize = 12;
const SPACES: [Space; 6] = [SMALL, LARGE, OTHER, COSINE, BARE, NARROW];
const TABLES: [&str; 3] = ["titles", "log", "notes"];

/// A workload out of what is left of the input.
pub fn workload(input: &mut Unstructured<'_>) -> Result<Workload> {
    let access = if input.ratio(1, 4)? { VectorAccess::Copy } else { VectorAccess::default() };
    let mut script = Script::default();
    while !input.is_empty() && script.steps.len() < MOST_STEPS {
        let step = script.step(input)?;
        script.steps.push(step);
    }
    Ok(Workload::new(access, "fuzzed", script.steps))
}

#[derive(Default)]
struct Script {
    steps: Vec<Step>,
    pins: usize,
    /// Those that exist.
    tables: BTreeSet<&'static str>,
}

impl Script {
    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<Step> {
        // A store with snapshots cannot be closed.
        let pinned = self.pins > 0;
        Ok(match input.int_in_range(0..=19)? {
            0 if self.pins < 3 => {
                self.pins += 1;
                Step::Pin
            }
            1..=4 if pinned => {
                self.pins -= 1;
                Step::Unpin
            }
            1 => Step::Reopen,
            2 => Step::DropAndReopen,
            3 => Step::Compact,
            4 => Step::Abort(self.changes(input, &mut self.tables.clone())?),
            5..=10 => self.commit(Durability::None, input)?,
            _ => self.commit(Durability::Immediate, input)?,
        })
    }

    fn commit(&mut self, durability: Durability, input: &mut Unstructured<'_>) -> Result<Step> {
        let mut tables = self.tables.clone();
        let changes = self.changes(input, &mut tables)?;
        self.tables = tables;
        Ok(Step::Commit(durability, changes))
    }

    fn changes(
        &self,
        input: &mut Unstructured<'_>,
        tables: &mut BTreeSet<&'static str>,
    ) -> Result<Vec<Change>> {
        let n = input.int_in_range(0..=4)?;
        (0..n).map(|_| change(input, tables)).collect()
    }
}

fn change(input: &mut Unstructured<'_>, tables: &mut BTreeSet<&'static str>) -> Result<Change> {
    let space = *input.choose(&SPACES)?;
    let table = *input.choose(&TABLES)?;
    let kind = input.int_in_range(0..=15)?;
    // Vectors of thousands of components fill segments, the others pages and the journal.
    let most = if space.dimension > 1000 { 6 } else { 40 };
    let first = input.int_in_range(0..=30)?;
    let keys = first..first + input.int_in_range(0..=most)?;
    Ok(match kind {
        0 => Change::DropCollection(space.name),
        1 if tables.remove(table) => Change::DeleteTable(table),
        2 => match TABLES.iter().find(|to| !tables.contains(*to)) {
            Some(to) if tables.remove(table) => {
                tables.insert(to);
                Change::RenameTable(table, to)
            }
            _ => Change::DropCollection(space.name),
        },
        3 => {
            tables.insert(table);
            Change::Delete(table, keys)
        }
        4 | 5 => {
            tables.insert(table);
            Change::Put(table, keys, input.int_in_range(0..=600)?)
        }
        6 | 7 => Change::InsertMany(space, keys),
        8..=11 => Change::Remove(space, keys),
        _ => Change::Insert(space, keys),
    })
}
