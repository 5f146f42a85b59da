//! Which `ef` finds which share of the nearest: measured on the collection itself, as it grows.
//!
//! One insertion in [`interval`] also takes a *sample*: a stored vector, drawn by seed and stamp, is searched for with growing `ef` as
//! if it were not there, and what each `ef` finds is compared with the truth. Samples are added up in [`Calibration`], which is a part of the
//! collection's row: it commits, aborts and is reopened with the vectors that it was measured on. When there are [`WINDOW`] samples,
//! all counts are halved, so that old ones fade. A bulk insertion takes its samples at its end, in parallel; integers add up to
//! the same in any order.
//!
//! **Why left out.** A stored vector that is searched for is found through its own links, which lead straight to its neighbours: such
//! queries, vectors moved by noise and midpoints of neighbours all promise far more than a foreign query gets. Measured on
//! 4,000 nouns, k 10: the `ef` that gives them .95 gives foreign queries .91 to .93. Left out, a vector is a foreign query but for
//! one thing: the graph was built with it, and its neighbours need each other less. So it is found a little harder: the error is on the
//! side of finding more than was asked for, and takes the place of a margin.
//!
//! **The truth** is a scan up to [`SCAN_UP_TO`] vectors, and above a search with `ef` [`TRUTH_EF`].
//!
//! Only nodes of level 0 are drawn: the descent, which passes through higher ones, does not have to know of it.

use rayon::prelude::*;

use super::hits::Hit;
use super::query::Query;
use super::view::View;
use crate::error::Result;
use crate::graph::PAGE_SLOTS;
use crate::graph::rows::CalibrationCounts;
use crate::hnsw::level::mix;
use crate::vectors::Slot;

/// The values of `ef` that are measured. 1, 10 and 100 are among them, as the least for each `k`.
const EFS: [usize; CalibrationCounts::EFS] =
    [1, 2, 4, 7, 10, 14, 20, 28, 40, 56, 80, 100, 130, 180, 250, 360, 512];
/// The values of `k` that are measured.
const KS: [usize; CalibrationCounts::KS] = [1, 10, 100];
/// Samples from which on all counts are halved.
const WINDOW: u32 = 256;
/// With fewer samples nothing is promised.
const FEWEST: u32 = 32;
/// Smaller collections take no samples: up to [`SCAN_UP_TO`] they are scanned, and samples from tiny graphs tell little of larger ones.
const SAMPLED_FROM: u64 = 256;
/// Up to this many vectors a scan takes no longer than a few walks.
const SCAN_UP_TO: u64 = 1_000;
/// Up to this many vectors the truth is told by a scan.
const EXACT_TRUTH_UP_TO: u64 = 4_096;
/// The `ef` of the search that tells the truth in larger collections.
const TRUTH_EF: usize = 1_024;
/// Slots that are looked at to find one to draw, where many are free.
const TRIES: usize = 256;

/// What the samples have shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Calibration(pub(crate) CalibrationCounts);

/// Insertions from one sample to the next: a window's worth in the time a collection takes to grow by half, but never so many that
/// they would cost more than a small part of the insertions.
fn interval(live: u64) -> u64 {
    (live / 512).max(16)
}

impl Calibration {
    /// The `ef` with which a search for `k` finds a share of `recall`; `None` when it takes a scan to be sure.
    pub(crate) fn ef(&self, live: u64, k: usize, recall: f64) -> Option<usize> {
        if recall >= 1.0 || live <= SCAN_UP_TO || self.0.samples < FEWEST {
            return None;
        }
        // How many candidates more than k it takes. Between the values of k that were measured this changes slowly; beyond the
        // last it grows in proportion.
        let beyond = |index: usize| Some(self.measured(index, recall)? - *KS.get(index)? as f64);
        let excess = match k {
            0..=10 => between(beyond(0)?, beyond(1)?, (k.max(1) as f64).log10()),
            11..=100 => between(beyond(1)?, beyond(2)?, (k as f64 / 10.0).log10()),
            _ => beyond(2)? * k as f64 / 100.0,
        };
        Some(k + excess.ceil() as usize)
    }

    /// The `ef`, between those measured, that has found `recall` for one of the [`KS`].
    fn measured(&self, index: usize, recall: f64) -> Option<f64> {
        let k = *KS.get(index)?;
        let samples = f64::from(self.0.samples);
        let wanted = samples * k as f64 * (recall + margin(recall, samples, k));
        let mut below: Option<(f64, f64)> = None;
        for (&ef, counts) in EFS.iter().zip(&self.0.found).filter(|(ef, _)| **ef >= k) {
            let (ef, found) = (ef as f64, f64::from(*counts.get(index)?));
            if found >= wanted {
                return Some(match below {
                    Some((lower, less)) => lower * (ef / lower).powf((wanted - less) / (found - less)),
                    None => ef,
                });
            }
            below = Some((ef, found));
        }
        None
    }

    /// Takes the samples that are due after the insertion of `stamps`.
    pub(crate) fn refresh(&mut self, view: View<'_>, stamps: std::ops::Range<u64>) -> Result<()> {
        let live = view.state.live;
        if live < SAMPLED_FROM {
            return Ok(());
        }
        let interval = interval(live);
        // The last ones, if there are more than a window holds.
        let first =
            stamps.start.div_ceil(interval).max((stamps.end / interval).saturating_sub(WINDOW.into()));
        let due = (first..stamps.end.div_ceil(interval)).map(|number| number * interval);
        let samples: Vec<Option<Found>> = match due.clone().collect::<Vec<_>>().as_slice() {
            [] => return Ok(()),
            [stamp] => vec![measure(view, *stamp)?],
            stamps => stamps.par_iter().map(|&stamp| measure(view, stamp)).collect::<Result<_>>()?,
        };
        if samples.len() >= WINDOW as usize {
            *self = Self::default();
        }
        samples.into_iter().flatten().for_each(|found| self.add(&found));
        Ok(())
    }

    fn add(&mut self, found: &Found) {
        let Self(CalibrationCounts { samples, found: sums }) = self;
        if *samples >= WINDOW {
            *samples /= 2;
            sums.iter_mut().flatten().for_each(|sum| *sum /= 2);
        }
        *samples += 1;
        for (sum, found) in sums.iter_mut().flatten().zip(found.iter().flatten()) {
            *sum += found;
        }
    }
}

/// One and a half standard errors of a measured recall, since samples also lag behind what is stored now; and no more than half of
/// what may be missed. The k nearest of one query are found or
/// missed together: they count as √k.
fn margin(recall: f64, samples: f64, k: usize) -> f64 {
    let variance = recall * (1.0 - recall) / (samples * (k as f64).sqrt());
    (1.5 * variance.sqrt()).min((1.0 - recall) / 2.0)
}

fn between(a: f64, b: f64, part: f64) -> f64 {
    a + (b - a) * part
}

/// By `ef` and `k`: how many of the `k` nearest were found.
type Found = [[u32; KS.len()]; EFS.len()];

/// A sample, or none where it comes by something damaged: it must not fail the insertion that it is due at, which would come
/// by the same again each time that it is tried.
fn measure(view: View<'_>, stamp: u64) -> Result<Option<Found>> {
    sample(view, stamp).or_else(|error| if error.is_corrupted() { Ok(None) } else { Err(error) })
}

/// Searches for a stored vector as if it were not there; `None` when none can be drawn.
fn sample(view: View<'_>, stamp: u64) -> Result<Option<Found>> {
    let Some((slot, key)) = draw(view, stamp)? else { return Ok(None) };
    let vector = view.vector(key, slot)?;
    let query = || Query::by_vector(view, &vector).leave_out(slot);
    let most = KS.iter().fold(0, |most, &k| most.max(k));
    let truth = if view.state.live <= EXACT_TRUTH_UP_TO {
        Query::by_vector(view, &vector).k(most + 1).exact().run()?
    } else {
        query().k(most).ef(TRUTH_EF).run()?
    };
    let truth: Vec<Hit> = truth.into_iter().filter(|hit| hit.key != key).collect();

    let mut found = Found::default();
    let mut complete = false;
    for (&ef, found) in EFS.iter().zip(&mut found) {
        // Once all are found, more candidates would change nothing.
        let hits = if complete { truth.clone() } else { query().k(ef.min(most)).ef(ef).run()?.into_vec() };
        for (&k, found) in KS.iter().zip(&mut *found).filter(|(k, _)| **k <= ef) {
            // Those that tie with the k-th are as good.
            let farthest = truth.get(k - 1).map_or(f32::INFINITY, |hit| hit.distance);
            *found = hits.iter().take(k).filter(|hit| hit.distance <= farthest).count() as u32;
        }
        complete = KS.iter().zip(&*found).all(|(&k, &found)| found as usize >= k);
    }
    Ok(Some(found))
}

/// A live node of level 0 that no search starts from, drawn by seed and stamp.
fn draw(view: View<'_>, stamp: u64) -> Result<Option<(Slot, u64)>> {
    let slots = u64::from(view.graph.slots());
    let anchors = view.state.anchors;
    let starts = |slot| anchors.is_some_and(|anchors| slot == anchors.entry || slot == anchors.root);
    let start = mix(view.state.parameters.seed ^ mix(stamp)).checked_rem(slots).unwrap_or(0);
    for slot in (0..slots).map(|step| (start + step) % slots).take(TRIES) {
        let slot = slot as Slot;
        if let Some(node) = view.graph.page_of(slot)?.node(slot as usize % PAGE_SLOTS)
            && node.record.level == 0
            && !starts(slot)
        {
            return Ok(Some((slot, node.record.key)));
        }
    }
    Ok(None)
}
