//! How everything changes from 10,000 vectors up, on synthetic vectors.
//!
//! One store grows: at every size it is closed, measured, and opened again. It is the store that an import of that many vectors
//! would have made: the transactions are the same, and the same operations give the same graph.

use std::path::Path;

use nestling::Store;
use serde_json::{Value, json};

use crate::child;
use crate::curves::{self, At, at_recall};
use crate::data::{QUERIES, synthetic};
use crate::matrix::Matrix;
use crate::options::Options;
use crate::report::{Report, heading, thousands};
use crate::statistics::{median, percentile};
use crate::store::{self, Filled};
use crate::truth::{Bounds, Truth};
use crate::{Result, reopen};

const SIZES: [usize; 5] = [10_000, 30_000, 100_000, 300_000, 1_000_000];
/// The recall at which speeds are compared.
pub(crate) const RECALL: f64 = 0.95;

/// What is plotted of a size.
pub(crate) struct Size {
    pub(crate) vectors: usize,
    /// Queries per second at a recall of 0.95.
    pub(crate) qps: f64,
}

pub(crate) fn run(directory: &Path, options: &Options, report: &mut Report) -> Result<Vec<Size>> {
    heading(&format!(
        "growth: synthetic, {} dimensions, intrinsic {}, noise {}, at recall@{} = {RECALL}",
        options.dimension,
        options.intrinsic,
        options.noise,
        options.k()
    ));
    println!("{:>50}{:>20}{:>10}", "", "first result, ms", "RssAnon");
    let columns = ["import/s", "qps", "qps·log n", "distances", "clean", "killed", "B/vector"];
    let [import, qps, scaled, distances, clean, killed, memory] = columns;
    println!(
        "{:>10}{import:>10}{qps:>10}{scaled:>10}{distances:>10}{clean:>10}{killed:>10}{memory:>10}",
        "vectors"
    );
    let directory = tempfile::tempdir_in(directory)?;
    let mut growing = Growing::new(directory.path(), options)?;
    let mut sizes: Vec<Size> = Vec::new();
    for vectors in sizes_to(options.growth_to as usize) {
        let Figures { import, at, reopenings: (clean, killed), usage } = growing.grow(vectors, options)?;
        let [clean_ms, killed_ms] = [&clean, &killed].map(|all| median(all));
        let scaled = at.map(|at| {
            let first = sizes.first().map_or((at.qps, vectors), |first| (first.qps, first.vectors));
            at.qps * (vectors as f64).log2() / (first.0 * (first.1 as f64).log2())
        });
        let anonymous = usage["rss_anon_per_vector"].as_f64();
        println!(
            "{:>10}{:>10}{:>10}{:>10}{:>10}{clean_ms:>10.1}{killed_ms:>10.1}{:>10}",
            thousands(vectors as f64),
            thousands(import),
            or_dash(at.map(|at| thousands(at.qps))),
            or_dash(scaled.map(|scaled| format!("{scaled:.2}"))),
            or_dash(at.map(|at| format!("{:.0}", at.distances))),
            or_dash(anonymous.map(thousands)),
        );
        report.record(
            "growth",
            json!({
                "vectors": vectors, "import_per_second": import, "recall": RECALL,
                "qps": at.map(|at| at.qps), "distances": at.map(|at| at.distances),
                "qps_times_log2_n_against_first": scaled,
                "clean_median_ms": clean_ms, "clean_max_ms": percentile(&clean, 100),
                "killed_median_ms": killed_ms, "killed_max_ms": percentile(&killed, 100),
                "memory": usage,
            }),
        )?;
        sizes.extend(at.map(|At { qps, .. }| Size { vectors, qps }));
    }
    println!("import/s: of what was added since the size before. qps and distances: interpolated between");
    println!("neighbouring ef, logarithms linear in recall; a dash where they do not enclose it.");
    println!("qps·log n: QPS times log2 of the size, against the first size.");
    Ok(sizes)
}

fn sizes_to(last: usize) -> Vec<usize> {
    SIZES.into_iter().filter(|&size| size < last).chain([last]).collect()
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or("-".to_owned())
}

/// What is measured at a size.
struct Figures {
    import: f64,
    at: Option<At>,
    /// Milliseconds, after clean closes and after kills.
    reopenings: (Vec<f64>, Vec<f64>),
    usage: Value,
}

struct Growing {
    filled: Filled,
    generator: crate::synthetic::Synthetic,
    base: Matrix,
    queries: Matrix,
    truth: Truth,
}

impl Growing {
    fn new(directory: &Path, options: &Options) -> Result<Self> {
        let generator = synthetic(options);
        let queries = generator.queries(QUERIES);
        Ok(Self {
            filled: Filled::new(directory, &queries)?,
            base: Matrix::new(Vec::new(), queries.width()),
            truth: Truth::new(queries.len(), options.k(), options.metric()),
            generator,
            queries,
        })
    }

    fn grow(&mut self, vectors: usize, options: &Options) -> Result<Figures> {
        let first = self.base.len();
        let added = self.generator.base(first, vectors - first);
        self.truth.extend(&self.queries, &added, first);
        self.base.append(added);
        let path = &self.filled.path;
        let definition = options.definition(self.base.width());
        let seconds = store::import(path, definition, &self.base, first, options.batch.get())?;
        let curve = {
            let (k, metric) = (options.k(), options.metric());
            let bounds = Bounds::new(&self.truth.rows(), k, metric, &self.queries, &self.base)?;
            let store = Store::open(path)?;
            curves::measure(&store::collection(&store)?, &self.queries, &self.base, &bounds, options)?
        };
        let usage = child::memory(path, &self.filled.queries)?.to_json(vectors);
        // In a copy: what killed imports leave behind would be in the way of the next size.
        let copy = self.filled.copy()?;
        let rounds = options.rounds.get();
        let (clean, killed) = reopen::measure(copy.path(), &self.filled, vectors as u64, rounds)?;
        let milliseconds = |firsts: Vec<child::First>| firsts.iter().map(|first| first.result_ms).collect();
        Ok(Figures {
            import: (vectors - first) as f64 / seconds,
            at: at_recall(&curve, RECALL),
            reopenings: (milliseconds(clean), milliseconds(killed)),
            usage,
        })
    }
}
