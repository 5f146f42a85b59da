//! Imports with one thread and with more, which must give the same graph.

use std::path::Path;

use nestling::{LayerStats, QueryStatistics, Store};
use serde_json::json;

use crate::data::Data;
use crate::options::Options;
use crate::report::{Report, heading, thousands};
use crate::statistics::median;
use crate::{Result, failure, store};

pub(crate) fn run(directory: &Path, data: &Data, options: &Options, report: &mut Report) -> Result<()> {
    let cpus = std::thread::available_parallelism()?.get();
    heading(&format!(
        "build: durable imports of {} vectors ({cpus} CPUs)",
        thousands(data.base.len() as f64)
    ));
    let mut threads = vec![1, 2, cpus];
    threads.sort_unstable();
    threads.dedup();
    let mut seconds = vec![Vec::new(); threads.len()];
    let mut graph = None;
    for _ in 0..options.rounds.get() {
        for (&threads, seconds) in threads.iter().zip(&mut seconds) {
            let path = directory.join("build.nestling");
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            let definition = options.definition(data.base.width());
            seconds
                .push(pool.install(|| store::import(&path, definition, &data.base, 0, options.batch.get()))?);
            let built = Graph::of(&path, data, options)?;
            if *graph.get_or_insert_with(|| built.clone()) != built {
                return failure(format!("the graph that {threads} threads have built is another one"));
            }
            std::fs::remove_dir_all(&path)?;
        }
    }
    println!("{:>10}{:>12}{:>16}{:>24}", "threads", "seconds", "vectors/s", "against one thread");
    let one = median(&seconds[0]);
    for (threads, seconds) in threads.into_iter().zip(&seconds) {
        let middle = median(seconds);
        let rate = data.base.len() as f64 / middle;
        println!("{threads:>10}{middle:>12.2}{:>16}{:>24.2}", thousands(rate), one / middle);
        report.record(
            "build",
            json!({
                "threads": threads, "seconds": middle, "all_seconds": seconds,
                "vectors_per_second": rate, "against_one_thread": one / middle,
            }),
        )?;
    }
    println!("All have built the same graph: every layer's shape, and every search's way, are the same.");
    Ok(())
}

/// What a graph shows of itself: its shape, and for every query what a search finds and which way it takes.
#[derive(Clone, PartialEq)]
struct Graph {
    layers: Vec<LayerStats>,
    searches: Vec<(Vec<u64>, QueryStatistics)>,
}

impl Graph {
    fn of(path: &Path, data: &Data, options: &Options) -> Result<Self> {
        let store = Store::open(path)?;
        let collection = store::collection(&store)?;
        let searches = data.queries.rows().map(|query| {
            let hits = collection.query(query).k(options.k()).run()?;
            Ok((hits.iter().map(|hit| hit.key).collect(), hits.statistics()))
        });
        let searches = searches.collect::<Result<_>>()?;
        let layers =
            store.stats()?.collections.into_iter().flat_map(|collection| collection.layers).collect();
        Ok(Self { layers, searches })
    }
}
