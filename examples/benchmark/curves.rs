//! Recall and speed of searches, from one `ef` to the next.

use std::time::Instant;

use nestling::{Collection, Hits, Store};
use serde_json::json;

use crate::matrix::Matrix;
use crate::options::Options;
use crate::report::{Report, heading, thousands};
use crate::statistics::{median, percentile};
use crate::store::Filled;
use crate::truth::Bounds;
use crate::{Result, data::Data, store};

/// What is measured at one `ef`.
pub(crate) struct Point {
    pub(crate) ef: usize,
    pub(crate) recall: f64,
    pub(crate) qps: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// The mean per query.
    pub(crate) distances: f64,
}

pub(crate) fn run(
    filled: &Filled,
    data: &Data,
    options: &Options,
    report: &mut Report,
) -> Result<Vec<Point>> {
    let bounds = data.bounds(options)?;
    heading(&format!("curves: {} searches for {} each, one thread", data.queries.len(), options.k()));
    let store = Store::open(&filled.path)?;
    let collection = store::collection(&store)?;
    let curve = measure(&collection, &data.queries, &data.base, &bounds, options)?;
    println!("{:>6}{:>10}{:>12}{:>12}{:>12}{:>14}", "ef", "recall", "qps", "p50 µs", "p99 µs", "distances");
    for Point { ef, recall, qps, p50, p99, distances } in &curve {
        println!("{ef:>6}{recall:>10.4}{:>12}{p50:>12.1}{p99:>12.1}{distances:>14.1}", thousands(*qps));
        report.record(
            "curves",
            json!({
                "peer": "nestling", "ef": ef, "recall": recall, "qps": qps,
                "p50_us": p50, "p99_us": p99, "distances": distances,
            }),
        )?;
    }
    for target in [0.95, 0.99] {
        if let Some(At { qps, distances, .. }) = at_recall(&curve, target) {
            println!("at recall {target}: {} per second, {distances:.0} distances each", thousands(qps));
            let measurement = json!({ "recall": target, "qps": qps, "distances": distances });
            report.record("at_recall", measurement)?;
        } else {
            println!("at recall {target}: not between the measured ones");
        }
    }
    Ok(curve)
}

/// The curve, in medians of as many rounds as the options ask for.
pub(crate) fn measure(
    collection: &Collection,
    queries: &Matrix,
    base: &Matrix,
    bounds: &Bounds,
    options: &Options,
) -> Result<Vec<Point>> {
    let efs = options.ef();
    let mut rounds: Vec<Vec<Pass>> = efs.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.rounds.get() {
        for (&ef, passes) in efs.iter().zip(&mut rounds) {
            let (first, second) =
                (pass(collection, queries, ef, options.k())?, pass(collection, queries, ef, options.k())?);
            passes.push(if first.seconds < second.seconds { first } else { second });
        }
    }
    let count = queries.len() as f64;
    let point = |(ef, passes): (usize, Vec<Pass>)| {
        let middle = |figure: &dyn Fn(&Pass) -> f64| median(&passes.iter().map(figure).collect::<Vec<_>>());
        // Every pass finds the same, by the same way.
        let found = &passes[0].found;
        Point {
            ef,
            recall: bounds.recall(found, queries, base),
            qps: middle(&|pass| count / pass.seconds),
            p50: middle(&|pass| percentile(&pass.microseconds, 50)),
            p99: middle(&|pass| percentile(&pass.microseconds, 99)),
            distances: found.iter().map(|hits| hits.statistics().distances as f64).sum::<f64>() / count,
        }
    };
    Ok(efs.into_iter().zip(rounds).map(point).collect())
}

/// All queries, searched with once.
struct Pass {
    seconds: f64,
    microseconds: Vec<f64>,
    found: Vec<Hits>,
}

fn pass(collection: &Collection, queries: &Matrix, ef: usize, k: usize) -> Result<Pass> {
    let mut microseconds = Vec::with_capacity(queries.len());
    let mut found = Vec::with_capacity(queries.len());
    let started = Instant::now();
    for query in queries.rows() {
        let asked = Instant::now();
        found.push(collection.query(query).k(k).ef(ef).run()?);
        microseconds.push(asked.elapsed().as_nanos() as f64 / 1e3);
    }
    Ok(Pass { seconds: started.elapsed().as_secs_f64(), microseconds, found })
}

/// What a curve tells for a recall between its points.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) qps: f64,
    pub(crate) distances: f64,
}

/// Interpolates between the two neighbouring points whose recalls enclose the target: the logarithms of QPS and of distances are
/// taken to be linear in recall there.
pub(crate) fn at_recall(curve: &[Point], target: f64) -> Option<At> {
    let (low, high) = curve
        .iter()
        .zip(curve.iter().skip(1))
        .find(|(low, high)| low.recall < target && target <= high.recall)?;
    let part = (target - low.recall) / (high.recall - low.recall);
    let between = |low: f64, high: f64| low * (high / low).powf(part);
    Some(At { qps: between(low.qps, high.qps), distances: between(low.distances, high.distances) })
}
