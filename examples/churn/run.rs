//! Follows a runbook, and measures on the way.

use std::path::Path;
use std::time::Instant;

use nestling::{CollectionDefinition, Store};
use serde_json::json;

use crate::cost::Cost;
use crate::measure::{Filled, Found, compare};
use crate::options::{Kind, Options};
use crate::report::{Report, heading};
use crate::runbook::{Change, Runbook};
use crate::world::World;
use crate::{Result, failure};

/// The recall that churn may cost.
pub(crate) const RECALL_MARGIN: f64 = 0.005;
/// How fast searches must be, relative to the fresh build.
const SPEED: f64 = 0.9;
/// How much more than an insertion a removal may cost.
const REMOVAL: f64 = 2.0;
/// The share of vectors that may fail to find themselves.
pub(crate) const LOST: f64 = 0.001;
/// How many vectors look for themselves among all.
const EXHAUSTIVE: usize = 200;

pub(crate) fn run(
    kind: Kind,
    world: &World,
    options: &Options,
    directory: &Path,
    report: &mut Report,
) -> Result<()> {
    heading(&format!("{kind}: {} rounds of {:.0} %", options.rounds, options.share.as_f64() * 100.0));
    println!(
        "{:>6} {:>6}  {:>6} {:>6} {:>6}  {:>6} {:>6} {:>5} {:>5}  {:>7}  {:>6} {:>6} {:>6}  {:>5} {:>5}  {:>3}",
        "turned",
        "live",
        "recall",
        "fresh",
        "diff",
        "QPS",
        "fresh",
        "ratio",
        "dist",
        "self",
        "remove",
        "insert",
        "update",
        "MB",
        "fresh",
        "bad"
    );
    let mut runbook = Runbook::new(kind, world, options);
    let whole = if kind == Kind::InsertionOrder { world.base.len() } else { runbook.live().len() };
    let mut churned = Churned::new(Filled::new(&directory.join("churned"), world, options, runbook.live())?);
    let mut fresh: Option<(tempfile::TempDir, Filled)> = None;
    let mut steps: Vec<Step> = Vec::new();
    let (mut turned, mut due) = (0.0, options.measure_every.as_f64());
    for _ in 0..options.rounds.get() {
        let round = runbook.next_round();
        let changed: usize =
            round.iter().flatten().filter(|change| !matches!(change, Change::Remove(_))).count();
        if changed == 0 {
            break;
        }
        turned += changed as f64 / whole as f64;
        churned.follow(&round, world, options)?;
        // Sums of shares are not exact.
        if turned + 1e-6 < due {
            continue;
        }
        due += options.measure_every.as_f64();
        if churned.filled.live != *runbook.live() {
            return failure("the runbook and the store disagree on what is live");
        }
        let is_stale = match &fresh {
            Some((_, fresh)) => {
                steps.len().is_multiple_of(options.fresh_every.get()) && fresh.rows() != churned.filled.rows()
            }
            None => true,
        };
        if is_stale {
            let place = tempfile::tempdir_in(directory)?;
            let filled = Filled::fresh(&place.path().join("fresh"), world, options, runbook.live())?;
            fresh = Some((place, filled));
        }
        if let Some((_, fresh)) = &fresh {
            let step = churned.measure(turned, fresh, world, options)?;
            step.print();
            report.record(kind, step.to_json())?;
            steps.push(step);
        }
    }
    print_costs(kind, &churned.costs, report)?;
    judge(kind, &steps, &churned, world, options, report)
}

/// The store that changes.
struct Churned {
    filled: Filled,
    /// Of removals, insertions and updates: all so far, and since the last measurement.
    costs: [Cost; 3],
    lately: [Cost; 3],
    commits: usize,
    checks: usize,
    problems: usize,
}

/// What is measured after a while of churn.
#[derive(Debug)]
struct Step {
    turned: f64,
    live: usize,
    churned: Found,
    fresh: Found,
    /// Vectors that do not find themselves.
    lost: usize,
    costs: [Cost; 3],
    bytes: [u64; 2],
    problems: usize,
}

impl Churned {
    fn new(filled: Filled) -> Self {
        Self {
            filled,
            costs: Default::default(),
            lately: Default::default(),
            commits: 0,
            checks: 0,
            problems: 0,
        }
    }

    fn follow(&mut self, round: &[Vec<Change>], world: &World, options: &Options) -> Result<()> {
        let definition = options.definition(world.base.width());
        for changes in round.iter().flat_map(|changes| changes.chunks(options.transaction.get())) {
            let cost = apply(&self.filled.store, definition, changes, world)?;
            let kind = match changes[0] {
                Change::Remove(_) => 0,
                Change::Insert(..) => 1,
                Change::Update(..) => 2,
            };
            self.lately[kind].extend(&cost);
            self.costs[kind].extend(&cost);
            for &change in changes {
                match change {
                    Change::Remove(key) => self.filled.live.remove(&key),
                    Change::Insert(key, row) | Change::Update(key, row) => self.filled.live.insert(key, row),
                };
            }
            self.commits += 1;
            if options.check_every > 0 && self.commits.is_multiple_of(options.check_every) {
                self.check()?;
            }
        }
        Ok(())
    }

    /// Counts what is wrong; the first finding is told.
    fn check(&mut self) -> Result<()> {
        let found = self.filled.store.check()?;
        if let (0, Some(first)) = (self.problems, found.problems.first()) {
            println!("after commit {}: {first}", self.commits);
        }
        self.checks += 1;
        self.problems += found.problems.len();
        Ok(())
    }

    fn measure(&mut self, turned: f64, fresh: &Filled, world: &World, options: &Options) -> Result<Step> {
        self.check()?;
        let [found, anew] = compare([&self.filled, fresh], world, options, options.ef)?;
        Ok(Step {
            turned,
            live: self.filled.live.len(),
            churned: found,
            fresh: anew,
            lost: self.filled.lost(world, options, options.ef, 1)?,
            costs: std::mem::take(&mut self.lately),
            bytes: [self.filled.store.bytes_on_disk()?, fresh.store.bytes_on_disk()?],
            problems: self.problems,
        })
    }
}

/// Makes changes of one kind in a transaction.
pub(crate) fn apply(
    store: &Store,
    definition: CollectionDefinition<'_>,
    changes: &[Change],
    world: &World,
) -> Result<Cost> {
    let tx = store.begin_write()?;
    let (calls, rows);
    {
        let mut collection = tx.open_collection(definition)?;
        let started = Instant::now();
        for &change in changes {
            let as_expected = match change {
                Change::Remove(key) => collection.remove(key)?,
                Change::Insert(key, row) => !collection.insert(key, world.base.row(row))?,
                Change::Update(key, row) => collection.insert(key, world.base.row(row))?,
            };
            if !as_expected {
                return failure(format!("{change:?}: the key is there and should not, or is not and should"));
            }
        }
        calls = started.elapsed();
        rows = collection.row_counts();
    }
    let started = Instant::now();
    tx.commit()?;
    let mut cost = Cost::default();
    cost.add(changes.len(), calls, started.elapsed(), rows);
    Ok(cost)
}

impl Step {
    fn difference(&self) -> f64 {
        self.churned.recall - self.fresh.recall
    }

    /// Searches per second, relative to the fresh build.
    fn speed(&self) -> f64 {
        self.churned.per_second / self.fresh.per_second
    }

    /// The same, if time went by distances.
    fn thrift(&self) -> f64 {
        self.fresh.distances / self.churned.distances
    }

    fn found_themselves(&self) -> f64 {
        1.0 - self.lost as f64 / self.live as f64
    }

    fn print(&self) {
        let [remove, insert, update] = self.costs.each_ref().map(|cost| match cost.is_empty() {
            true => "–".to_owned(),
            false => format!("{:.0}", cost.total()),
        });
        println!(
            "{:>5.0}% {:>6}  {:>6.4} {:>6.4} {:>+6.4}  {:>6.0} {:>6.0} {:>5.2} {:>5.2}  {:>6.2}%  {remove:>6} {insert:>6} {update:>6}  {:>5.1} {:>5.1}  {:>3}",
            self.turned * 100.0,
            self.live,
            self.churned.recall,
            self.fresh.recall,
            self.difference(),
            self.churned.per_second,
            self.fresh.per_second,
            self.speed(),
            self.thrift(),
            self.found_themselves() * 100.0,
            self.bytes[0] as f64 / 1e6,
            self.bytes[1] as f64 / 1e6,
            self.problems,
        );
    }

    fn to_json(&self) -> serde_json::Value {
        let found = |found: &Found| json!({ "recall": found.recall, "distances": found.distances, "per_second": found.per_second });
        let microseconds: Vec<f64> = self.costs.iter().map(Cost::total).collect();
        json!({
            "turned": self.turned, "live": self.live, "churned": found(&self.churned), "fresh": found(&self.fresh),
            "lost": self.lost, "remove_insert_update_microseconds": microseconds, "bytes": self.bytes,
            "problems": self.problems,
        })
    }
}

fn print_costs(kind: Kind, costs: &[Cost; 3], report: &mut Report) -> Result<()> {
    println!("  each:     µs in calls   µs in commit      rows read   rows written");
    for (name, cost) in ["remove", "insert", "update"].into_iter().zip(costs) {
        if cost.is_empty() {
            continue;
        }
        let (calls, commit, read, written) = (cost.calls(), cost.commit(), cost.read(), cost.touched());
        println!("  {name} {calls:>14.0} {commit:>14.0} {read:>14.0} {written:>14.1}");
        report.record(
            kind,
            json!({
                "change": name, "changes": cost.changes(), "microseconds_in_calls": calls,
                "microseconds_in_commit": commit, "rows_read": read, "rows_written": written,
            }),
        )?;
    }
    Ok(())
}

/// The criteria of churn.
fn judge(
    kind: Kind,
    steps: &[Step],
    churned: &Churned,
    world: &World,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let worst = |figure: fn(&Step) -> f64| steps.iter().min_by(|a, b| figure(a).total_cmp(&figure(b)));
    let Some(step) = worst(Step::difference) else { return failure("nothing was turned over") };
    let (difference, at) = (step.difference(), step.turned * 100.0);
    let text =
        format!("recall within {RECALL_MARGIN} of a fresh build: {difference:+.4} at worst, after {at:.0} %");
    report.judge(kind, text, difference >= -RECALL_MARGIN)?;

    let (figure, name): (fn(&Step) -> f64, _) = match options.by_counts {
        true => (Step::thrift, "distances per query, inverted,"),
        false => (Step::speed, "searches per second"),
    };
    let slowest = worst(figure).map_or(f64::NAN, figure);
    report.judge(
        kind,
        format!("{name} ≥ {SPEED} × a fresh build's: {slowest:.2} at worst"),
        slowest >= SPEED,
    )?;

    let (checks, problems) = (churned.checks, churned.problems);
    report.judge(
        kind,
        format!("nothing dangling or unreachable: {problems} findings in {checks} checks"),
        problems == 0,
    )?;

    let [remove, insert, update] = &churned.costs;
    if !remove.is_empty() {
        let (calls, whole) = (remove.calls() / insert.calls(), remove.total() / insert.total());
        let rows = remove.touched() / insert.touched();
        let text = format!(
            "a removal ≤ {REMOVAL} × an insertion: {calls:.2} in the calls, {whole:.2} with the commit, {rows:.2} in rows written"
        );
        let in_time = options.by_counts || calls.max(whole) <= REMOVAL;
        report.judge(kind, text, rows <= REMOVAL && in_time)?;
    }
    if !update.is_empty() {
        let time = update.total() / (remove.total() + insert.total());
        let rows = update.touched() / (remove.touched() + insert.touched());
        let text =
            format!("an update ≤ a removal and an insertion: {time:.2} in time, {rows:.2} in rows written");
        report.judge(kind, text, rows <= 1.0 && (options.by_counts || time <= 1.0))?;
    }

    let themselves = worst(Step::found_themselves).map_or(f64::NAN, Step::found_themselves) * 100.0;
    let least = 100.0 - LOST * 100.0;
    report.judge(
        kind,
        format!("vectors that find themselves ≥ {least} %: {themselves:.2} % at worst"),
        themselves >= least,
    )?;

    let live = churned.filled.live.len();
    let every = live.div_ceil(EXHAUSTIVE);
    let lost = churned.filled.lost(world, options, live, every)?;
    let asked = live.div_ceil(every);
    report.judge(kind, format!("with ef = n all do: {} of {asked}", asked - lost), lost == 0)
}
