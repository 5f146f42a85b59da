//! Exact copies of one vector, and clusters of near-duplicates, among others.

use std::path::Path;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::Result;
use crate::cost::Cost;
use crate::matrix::Matrix;
use crate::measure::{Filled, compare};
use crate::options::{Kind, Options};
use crate::report::{Report, heading};
use crate::run::{LOST, RECALL_MARGIN, apply};
use crate::runbook::{Change, Live};
use crate::world::World;

/// Near-duplicates in a cluster: more than a row has neighbours.
const CLUSTER: usize = 50;
/// Near-duplicates fill the list of `ef` candidates: of two clusters nearer than the tenth neighbour, all members. That is so in any
/// graph, and no sign of a bad one; so the list is longer by two clusters than it is without them.
const CROWD: usize = 2 * CLUSTER;
/// How far a near-duplicate is from its original, relative to the latter's length.
const NEAR: f32 = 0.01;
/// How much more than an ordinary insertion that of a duplicate may cost.
const INSERTION: f64 = 2.0;

pub(crate) fn run(world: &World, options: &Options, directory: &Path, report: &mut Report) -> Result<()> {
    let others = world.base.len();
    let mut rng = StdRng::seed_from_u64(options.seed);
    let copies = copies(world, others / 5, &mut rng);
    one(&copies, others, "copies", 0, options, &directory.join("copies"), report)?;
    let near = near_duplicates(world, others / CLUSTER, &mut rng);
    one(&near, others, "near-duplicates", CROWD, options, &directory.join("near"), report)
}

/// The base, and behind it `count` copies of one of it.
fn copies(world: &World, count: usize, rng: &mut StdRng) -> World {
    let original = world.base.row(rng.random_range(0..world.base.len()));
    with_others(world, original.repeat(count))
}

/// The base, and behind it `clusters` clusters, each around one of it.
fn near_duplicates(world: &World, clusters: usize, rng: &mut StdRng) -> World {
    let mut values = Vec::new();
    for _ in 0..clusters {
        let original = world.base.row(rng.random_range(0..world.base.len()));
        let length = original.iter().map(|x| x * x).sum::<f32>().sqrt();
        // The standard deviation of what is uniform in −a..a is a / √3.
        let most = NEAR * length * (3.0 / original.len() as f32).sqrt();
        for _ in 0..CLUSTER {
            values.extend(original.iter().map(|x| x + rng.random_range(-most..most)));
        }
    }
    with_others(world, values)
}

fn with_others(world: &World, values: Vec<f32>) -> World {
    let width = world.base.width();
    let mut base = Matrix::new(world.base.rows().flatten().copied().collect(), width);
    base.append(Matrix::new(values, width));
    let queries = Matrix::new(world.queries.rows().flatten().copied().collect(), width);
    let order = (0..base.len()).collect();
    World::new(world.name.clone(), world.metric, base, queries, order)
}

/// Half of the others are there at first. Then come the other half and the duplicates, mixed, each kind in transactions of its own;
/// and, into another store, the other half alone.
fn one(
    world: &World,
    others: usize,
    name: &str,
    crowd: usize,
    options: &Options,
    directory: &Path,
    report: &mut Report,
) -> Result<()> {
    std::fs::create_dir(directory)?;
    let duplicates = world.base.len() - others;
    heading(&format!("duplicates: {duplicates} {name} among {others} others"));
    let mut rng = StdRng::seed_from_u64(options.seed);
    let mut rows: Vec<usize> = (0..others).collect();
    rows.shuffle(&mut rng);
    let at_first: Live = (0..).zip(rows.iter().copied().take(others / 2)).collect();
    let mut later = rows.split_off(others / 2);
    let alone = Grown::new(&directory.join("alone"), world, options, &at_first, &later, others)?;
    later.extend(others..world.base.len());
    later.shuffle(&mut rng);
    let mixed = Grown::new(&directory.join("mixed"), world, options, &at_first, &later, others)?;

    println!("  each:                        µs      rows read   rows written");
    let costs = [
        ("other, without duplicates", &alone.ordinary),
        ("other, among duplicates", &mixed.ordinary),
        ("duplicate", &mixed.duplicate),
    ];
    for (kind, cost) in costs {
        let (time, read, written) = (cost.total(), cost.read(), cost.touched());
        println!("  {kind:<25} {time:>6.0} {read:>14.0} {written:>14.1}");
        report.record(
            name,
            json!({ "insert": kind, "microseconds": time, "rows_read": read, "rows_written": written }),
        )?;
    }

    let kind = Kind::Duplicates;
    let findings = mixed.filled.store.check()?;
    if let Some(first) = findings.problems.first() {
        println!("{first}");
    }
    let problems = findings.problems.len();
    report.judge(kind, format!("{name}: all reachable: {problems} findings"), findings.is_clean())?;

    let slowest = |figure: fn(&Cost) -> f64| {
        figure(&mixed.ordinary).max(figure(&mixed.duplicate)) / figure(&alone.ordinary)
    };
    let (time, rows) = (slowest(Cost::total), slowest(Cost::read));
    let text =
        format!("{name}: insertions ≤ {INSERTION} × the usual: {time:.2} in time, {rows:.2} in rows read");
    report.judge(kind, text, if options.by_counts { rows } else { time } <= INSERTION)?;

    let plain = compare([&mixed.filled, &alone.filled], world, options, options.ef)?;
    println!("  recall at ef {}: {:.4}, without {name} {:.4}", options.ef, plain[0].recall, plain[1].recall);
    let [roomy] = compare([&mixed.filled], world, options, options.ef + crowd)?;
    let (with, without) = (roomy.recall, plain[1].recall);
    let text = format!(
        "{name}: recall at ef {} within {RECALL_MARGIN} of that without, at ef {}: {with:.4}, {without:.4}",
        options.ef + crowd,
        options.ef
    );
    report.judge(kind, text, with >= without - RECALL_MARGIN)?;

    let lost = mixed.filled.lost(world, options, options.ef, 1)? as f64 / mixed.filled.live.len() as f64;
    let (found, least) = (100.0 - lost * 100.0, 100.0 - LOST * 100.0);
    report.judge(
        kind,
        format!("{name}: vectors that find themselves ≥ {least} %: {found:.2} %"),
        lost <= LOST,
    )
}

/// A store that vectors were inserted into, one by one.
struct Grown {
    filled: Filled,
    ordinary: Cost,
    duplicate: Cost,
}

impl Grown {
    /// Rows below `others` are ordinary.
    fn new(
        path: &Path,
        world: &World,
        options: &Options,
        at_first: &Live,
        later: &[usize],
        others: usize,
    ) -> Result<Self> {
        let filled = Filled::new(path, world, options, at_first)?;
        let mut grown = Self { filled, ordinary: Cost::default(), duplicate: Cost::default() };
        let definition = options.definition(world.base.width());
        // Mixed in rounds, so that a transaction tells the cost of one kind.
        let inserts: Vec<Change> =
            (at_first.len() as u64..).zip(later).map(|(key, &row)| Change::Insert(key, row)).collect();
        for round in inserts.chunks(8 * options.transaction.get()) {
            let is_ordinary = |change: &Change| matches!(change, Change::Insert(_, row) if *row < others);
            let (ordinary, duplicate): (Vec<_>, Vec<_>) = round.iter().copied().partition(is_ordinary);
            for (changes, cost) in [(ordinary, &mut grown.ordinary), (duplicate, &mut grown.duplicate)] {
                for changes in changes.chunks(options.transaction.get()) {
                    cost.extend(&apply(&grown.filled.store, definition, changes, world)?);
                }
            }
            for &change in round {
                if let Change::Insert(key, row) = change {
                    grown.filled.live.insert(key, row);
                }
            }
        }
        Ok(grown)
    }
}
