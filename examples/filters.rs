//! Filtered searches at default settings: recall, speed, and how they were done.
//!
//! ```text
//! cargo run --release --example filters
//! cargo run --release --example filters -- --base base.fvecs --queries query.fvecs
//! ```
//!
//! For each query a part of the vectors is allowed, from 50 % down to 0.01 %: a random part, the part nearest to a vector near
//! the query, or the part farthest from the query. The same keys are given as a set and as a closure, which looks a flag up: what a
//! dearer one takes for every key comes on top of it. Beside them stand an exact scan of what is allowed, and the search without a
//! filter at the lowest `ef` that reaches the same recall. Counts are checked: the program fails where a search returns anything but
//! min(k, allowed) hits.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use nestling::{Collection, CollectionDefinition, Hits, Metric, Query, Store, Strategy};

#[path = "../tests/common/words.rs"]
mod words;

type Result<T> = std::result::Result<T, Box<dyn Error>>;
/// Vectors, all of one length.
type Rows = Vec<Vec<f32>>;

const K: usize = 10;
/// The parts allowed, in percent.
const PERCENT: [f64; 5] = [50.0, 10.0, 1.0, 0.1, 0.01];
/// What a filter may leave of the speed without one, where a scan of what is allowed is not the measure.
const SHARE: f64 = 0.3;
const EF: [usize; 12] = [10, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 2048];
/// Each search is run in so many passes over all queries; the fastest run counts.
const PASSES: usize = 5;

#[derive(Parser)]
struct Options {
    /// The vectors to store, an .fvecs file, instead of the shipped words
    #[arg(long, requires = "queries")]
    base: Option<PathBuf>,
    /// The queries, an .fvecs file
    #[arg(long, requires = "base")]
    queries: Option<PathBuf>,
    /// How many of the queries to use
    #[arg(long, default_value_t = 200)]
    take: usize,
    /// Seeds the random parts
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let (base, mut queries) = load(&options)?;
    queries.truncate(options.take);
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path().join("filters.nestling"))?;
    let definition = CollectionDefinition::new("vectors", base[0].len(), Metric::Cosine);
    let tx = store.begin_write()?;
    tx.open_collection(definition)?.insert_many((0..).zip(&base))?;
    tx.commit()?;
    let collection = store.begin_read()?.open_collection(definition)?;
    println!("{} vectors, {} queries, k = {K}, seed {}\n", base.len(), queries.len(), options.seed);

    let curve = unfiltered(&collection, &queries)?;
    println!("\nQueries per second: filtered, by the exact scan of what is allowed, and without");
    println!("a filter at the same recall. Strategies, percent of the queries, for sets and for");
    println!("closures: walk/walk then scan/scan.\n");
    println!("allowed         recall     set    scan closure   scan no filter  strategies");
    let (mut worst_set, mut worst_closure) = (f64::INFINITY, f64::INFINITY);
    for kind in [Kind::Random, Kind::Near, Kind::Far] {
        for percent in PERCENT {
            let allowed = ((base.len() as f64 * percent / 100.0).round() as usize).max(1);
            let sets = kind.sets(&collection, &queries, allowed, options.seed)?;
            let row = Row::measure(&collection, &queries, &sets, allowed)?;
            let unfiltered = row.equal(&curve);
            row.print(kind, percent, unfiltered);
            worst_set = worst_set.min(worth(row.set, unfiltered, row.scan));
            worst_closure = worst_closure.min(worth(row.closure, unfiltered, row.scan_by_closure));
        }
    }
    println!(
        "\nAt worst, of {SHARE} × the QPS without a filter at the same recall, or of the scan's where that is less:"
    );
    println!("sets {worst_set:.2}, closures {worst_closure:.2}.");
    Ok(())
}

/// What part of the vectors is allowed.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Random,
    Near,
    Far,
}

impl Kind {
    /// The allowed keys for each query, ascending.
    fn sets(
        self,
        collection: &Collection,
        queries: &[Vec<f32>],
        allowed: usize,
        seed: u64,
    ) -> Result<Vec<Vec<u64>>> {
        let live = collection.len() as usize;
        let mut random = seed;
        let mut sets = Vec::new();
        for query in queries {
            let mut keys: Vec<u64> = match self {
                Kind::Random => {
                    let mut keys: Vec<u64> = (0..live as u64).collect();
                    for at in 0..allowed {
                        keys.swap(at, at + (split_mix(&mut random) % (live - at) as u64) as usize);
                    }
                    keys
                }
                Kind::Near => {
                    let near = collection.query(query).k(K).exact().run()?[K - 1].key;
                    keys_of(&collection.query_key(near).k(live).exact().run()?)
                }
                Kind::Far => {
                    let mut keys = keys_of(&collection.query(query).k(live).exact().run()?);
                    keys.reverse();
                    keys
                }
            };
            keys.truncate(allowed);
            keys.sort_unstable();
            sets.push(keys);
        }
        Ok(sets)
    }
}

/// What was measured of one kind of filter.
struct Row {
    recall: f64,
    set: f64,
    closure: f64,
    scan: f64,
    scan_by_closure: f64,
    strategies: String,
}

impl Row {
    fn measure(
        collection: &Collection,
        queries: &[Vec<f32>],
        sets: &[Vec<u64>],
        allowed: usize,
    ) -> Result<Self> {
        let live = collection.len() as usize;
        let flags: Vec<Vec<bool>> = sets.iter().map(|set| flags(set, live)).collect();
        let query = |i: usize| collection.query(&queries[i]).k(K);
        let (scan, truth) = time(queries.len(), |i| query(i).exact().among(&sets[i]))?;
        let (scan_by_closure, _) = time(queries.len(), |i| {
            let allowed = &flags[i];
            query(i).exact().filter(|key| allowed[key as usize])
        })?;
        let (set, found) = time(queries.len(), |i| query(i).among(&sets[i]))?;
        let (closure, found_by_closure) = time(queries.len(), |i| {
            let allowed = &flags[i];
            query(i).filter(|key| allowed[key as usize])
        })?;
        for hits in found.iter().chain(&found_by_closure) {
            if hits.len() != K.min(allowed) {
                return Err(format!("{} hits where {allowed} are allowed", hits.len()).into());
            }
        }
        let recall = recall(&found, &truth).min(recall(&found_by_closure, &truth));
        let strategies = |found: &[Hits]| {
            let count = |strategy| found.iter().filter(|hits| hits.statistics().strategy == strategy).count();
            let percent = |strategy| 100 * count(strategy) / found.len();
            format!(
                "{}/{}/{}",
                percent(Strategy::Walk),
                percent(Strategy::WalkThenScan),
                percent(Strategy::Scan)
            )
        };
        let strategies = format!("{} {}", strategies(&found), strategies(&found_by_closure));
        Ok(Self { recall, set, closure, scan, scan_by_closure, strategies })
    }

    /// How fast the search without a filter is at the same recall.
    fn equal(&self, curve: &[(f64, f64)]) -> f64 {
        let equal = curve.iter().find(|(recall, _)| *recall >= self.recall).or(curve.last());
        equal.map_or(0.0, |point| point.1)
    }

    fn print(&self, kind: Kind, percent: f64, equal: f64) {
        let Self { recall, set, closure, scan, scan_by_closure, strategies } = self;
        println!(
            "{:<6}{percent:>6} %  {recall:.3}{set:>8.0}{scan:>8.0}{closure:>8.0}{scan_by_closure:>7.0}{equal:>9.0}  {strategies}",
            format!("{kind:?}").to_lowercase(),
        );
    }
}

/// How much of the lesser of both measures of speed a search has.
fn worth(qps: f64, unfiltered: f64, scan: f64) -> f64 {
    qps / (SHARE * unfiltered).min(scan)
}

/// A flag per key, set for those of the set.
fn flags(set: &[u64], keys: usize) -> Vec<bool> {
    let mut flags = vec![false; keys];
    for &key in set {
        flags[key as usize] = true;
    }
    flags
}

/// Recall and queries per second without a filter, by `ef`.
fn unfiltered(collection: &Collection, queries: &[Vec<f32>]) -> Result<Vec<(f64, f64)>> {
    let (_, truth) = time(queries.len(), |i| collection.query(&queries[i]).k(K).exact())?;
    let mut curve = Vec::new();
    println!("without a filter\n    ef  recall    QPS");
    for ef in EF {
        let (qps, found) = time(queries.len(), |i| collection.query(&queries[i]).k(K).ef(ef))?;
        let recall = recall(&found, &truth);
        println!("{ef:>6}  {recall:.4}  {qps:>5.0}");
        curve.push((recall, qps));
    }
    Ok(curve)
}

/// Runs each query some times: queries per second, each at its fastest, and the hits.
fn time<'a>(queries: usize, query: impl Fn(usize) -> Query<'a>) -> Result<(f64, Vec<Hits>)> {
    let mut best = vec![Duration::MAX; queries];
    let mut found = Vec::new();
    for _ in 0..PASSES {
        found.clear();
        for (i, best) in best.iter_mut().enumerate() {
            let started = Instant::now();
            found.push(query(i).run()?);
            *best = started.elapsed().min(*best);
        }
    }
    Ok((queries as f64 / best.iter().sum::<Duration>().as_secs_f64(), found))
}

/// The part of what was to be found that was: no farther than the last of the truth.
fn recall(found: &[Hits], truth: &[Hits]) -> f64 {
    let right = found.iter().zip(truth).map(|(found, truth)| {
        let bound = truth.last().map_or(0.0, |hit| hit.distance);
        found.iter().filter(|hit| hit.distance <= bound).count()
    });
    right.sum::<usize>() as f64 / truth.iter().map(|truth| truth.len()).sum::<usize>() as f64
}

fn keys_of(hits: &Hits) -> Vec<u64> {
    hits.iter().map(|hit| hit.key).collect()
}

/// Steele et al., Fast splittable pseudorandom number generators, 2014.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What is stored, and what is searched for: of the shipped words, every fifth.
fn load(options: &Options) -> Result<(Rows, Rows)> {
    if let (Some(base), Some(queries)) = (&options.base, &options.queries) {
        return Ok((read_fvecs(base)?, read_fvecs(queries)?));
    }
    let (mut base, mut queries) = (Vec::new(), Vec::new());
    for (row, vector) in words::words().vectors.into_iter().enumerate() {
        if row % 5 == 0 { queries.push(vector) } else { base.push(vector) }
    }
    Ok((base, queries))
}

/// Rows of a little-endian u32, the dimension, and so many f32.
fn read_fvecs(path: &PathBuf) -> Result<Rows> {
    let bytes = std::fs::read(path)?;
    let (words, _) = bytes.as_chunks::<4>();
    let dimension = u32::from_le_bytes(*words.first().ok_or("an empty file")?) as usize;
    let rows = words.chunks_exact(1 + dimension);
    Ok(rows.map(|row| row[1..].iter().map(|word| f32::from_le_bytes(*word)).collect()).collect())
}
