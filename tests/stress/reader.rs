//! Those that hold snapshots, and believe nothing.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nestling::{Collection, Hit, Metric, Pages, ReadTransaction, Store};

use crate::Violation;
use crate::claim::{self, Claim, Generations, SUBJECTS, vector};
use crate::dice::Dice;
use crate::evidence::{Held, Seen};

/// Snapshots that a reader holds at once, at most.
const MOST_HELD: usize = 5;
/// Looks of a reader at each commit, and for how long it rests when nothing new comes: eight readers on a few cores would leave the
/// writer no time.
const LOOKS: usize = 3;
const REST: Duration = Duration::from_millis(2);

/// Takes snapshots, looks at them again and again, and drops them, until the era ends.
pub fn read(
    store: &Store,
    number: usize,
    mut dice: Dice,
    held: &Held,
    ended: &AtomicBool,
) -> Result<Seen, Violation> {
    let mut seen = Seen::default();
    let mut holds: Vec<Hold> = Vec::new();
    let (mut latest, mut looked_at, mut looks) = (0, 0, 0);
    while !ended.load(Ordering::Relaxed) {
        if holds.is_empty() || (holds.len() < MOST_HELD && dice.percent(35)) {
            let hold = Hold::take(store, &mut dice, &mut seen)
                .map_err(|violation| format!("reader {number}, a new snapshot: {violation}"))?;
            if hold.commit < latest {
                return Err(format!("reader {number}: commit {} after {latest}", hold.commit));
            }
            latest = hold.commit;
            holds.push(hold);
        }
        let at = dice.below(holds.len());
        let now = store.begin_read().map_err(|e| e.to_string())?;
        looks = if now.commit_number() == looked_at { looks + 1 } else { 0 };
        looked_at = now.commit_number();
        let hold = &mut holds[at];
        hold.look(&now, &mut dice, &mut seen).map_err(|violation| {
            let now = now.commit_number();
            format!("reader {number}, snapshot of commit {} at commit {now}: {violation}", hold.commit)
        })?;
        drop(now);
        if dice.percent(12) {
            holds.swap_remove(at);
        }
        held.note(number, holds.iter().map(|hold| hold.commit).min());
        if looks >= LOOKS {
            thread::sleep(REST);
        }
    }
    Ok(seen)
}

/// A snapshot that is kept alive, and what it must go on to show.
struct Hold {
    commit: u64,
    claim: Claim,
    /// `None` for those that are kept alive by their collections alone.
    snapshot: Option<ReadTransaction>,
    /// `None` where the snapshot has no such collection.
    collections: [Option<Collection>; SUBJECTS.len()],
    browsing: Option<Browsing>,
}

/// Somebody scrolls.
struct Browsing {
    subject: usize,
    pages: Pages,
    told: BTreeSet<u64>,
}

impl Hold {
    fn take(store: &Store, dice: &mut Dice, seen: &mut Seen) -> Result<Self, Violation> {
        let snapshot = store.begin_read().map_err(|e| e.to_string())?;
        let claim = claim::read(&snapshot)?;
        let mut collections = [None, None];
        let existing = snapshot.list_collections();
        for ((subject, generations), collection) in SUBJECTS.iter().zip(&claim).zip(&mut collections) {
            let name = subject.definition.name();
            if generations.is_some() != existing.iter().any(|existing| existing == name) {
                return Err(format!(
                    "{name}: the tables and the collections do not agree on whether it exists"
                ));
            }
            if generations.is_some() {
                *collection = Some(snapshot.open_collection(subject.definition).map_err(|e| e.to_string())?);
            }
        }
        seen.snapshots += 1;
        let commit = snapshot.commit_number();
        let snapshot = dice.percent(60).then_some(snapshot);
        Ok(Self { commit, claim, snapshot, collections, browsing: None })
    }

    /// One look of some kind at one of the collections.
    fn look(&mut self, now: &ReadTransaction, dice: &mut Dice, seen: &mut Seen) -> Result<(), Violation> {
        let age = now.commit_number().saturating_sub(self.commit);
        seen.looks_back += u64::from(age > 0);
        seen.oldest = seen.oldest.max(age);
        if let Some(snapshot) = self.snapshot.as_ref().filter(|_| dice.percent(10))
            && claim::read(snapshot)? != self.claim
        {
            return Err("the tables have changed".to_owned());
        }
        let subject = dice.below(SUBJECTS.len());
        if dice.percent(20) {
            return self.browse(subject, dice, seen);
        }
        let (Some(collection), Some(live)) = (&self.collections[subject], &self.claim[subject]) else {
            return Ok(());
        };
        let name = SUBJECTS[subject].definition.name();
        seen.looks_at_dropped += u64::from(!now.list_collections().iter().any(|other| other == name));
        let look = Look { subject, collection, live };
        let looked = match dice.below(8) {
            0 => look.everything(seen),
            1 | 2 => look.some(dice, seen),
            3 => look.nearest(dice, seen),
            4 => look.filtered(dice, seen),
            5 => look.within(dice, seen),
            6 => look.many(dice, seen),
            _ => look.default_effort(dice, seen),
        };
        looked.map_err(|violation| format!("{name}: {violation}"))
    }

    /// Turns a page, of what was begun some commits ago as a rule.
    fn browse(&mut self, subject: usize, dice: &mut Dice, seen: &mut Seen) -> Result<(), Violation> {
        let mut browsing = match self.browsing.take() {
            Some(browsing) => browsing,
            None => {
                let Some(collection) = &self.collections[subject] else { return Ok(()) };
                let query = vector(subject, dice.next(), 0);
                let pages = collection.browse(&query, dice.within(30..=200)).map_err(|e| e.to_string())?;
                Browsing { subject, pages, told: BTreeSet::new() }
            }
        };
        let live = self.claim[browsing.subject].as_ref().ok_or("browsing a collection that is not there")?;
        let name = SUBJECTS[browsing.subject].definition.name();
        match browsing.pages.next() {
            Some(page) => {
                for hit in page.map_err(|e| format!("{name}, a page: {e}"))? {
                    if !live.contains_key(&hit.key) || !browsing.told.insert(hit.key) {
                        return Err(format!("{name}: a page tells key {} which it should not", hit.key));
                    }
                }
                seen.pages += 1;
                self.browsing = Some(browsing);
            }
            None if browsing.told.len() != live.len() => {
                return Err(format!("{name}: pages told {} of {} keys", browsing.told.len(), live.len()));
            }
            None => {}
        }
        Ok(())
    }
}

/// A collection, and what must be in it.
struct Look<'a> {
    subject: usize,
    collection: &'a Collection,
    live: &'a Generations,
}

impl Look<'_> {
    /// All keys, and all vectors bit by bit.
    fn everything(&self, seen: &mut Seen) -> Result<(), Violation> {
        if self.collection.len() != self.live.len() as u64 {
            return Err(format!("{} vectors instead of {}", self.collection.len(), self.live.len()));
        }
        let keys = self.collection.keys().and_then(Iterator::collect::<Result<Vec<u64>, _>>);
        if !keys.map_err(|e| e.to_string())?.iter().eq(self.live.keys()) {
            return Err("other keys than the table tells".to_owned());
        }
        let mut expected = self.live.iter();
        for entry in self.collection.iter().map_err(|e| e.to_string())? {
            let (key, found) = entry.map_err(|e| e.to_string())?;
            match expected.next() {
                Some((&other, &generation)) if other == key => self.same(key, generation, &found)?,
                _ => return Err(format!("an unexpected key {key}")),
            }
            seen.vectors += 1;
        }
        Ok(())
    }

    /// Some keys, those that are not there included.
    fn some(&self, dice: &mut Dice, seen: &mut Seen) -> Result<(), Violation> {
        for _ in 0..50 {
            let key = dice.below(SUBJECTS[self.subject].keys) as u64;
            let found = self.collection.get(key).map_err(|e| e.to_string())?;
            match (self.live.get(&key), found) {
                (None, None) => {}
                (Some(&generation), Some(found)) => self.same(key, generation, &found)?,
                (expected, found) => {
                    return Err(format!("key {key}: generation {expected:?}, found {}", found.is_some()));
                }
            }
            seen.vectors += 1;
        }
        Ok(())
    }

    fn same(&self, key: u64, generation: u64, found: &[f32]) -> Result<(), Violation> {
        let expected = vector(self.subject, key, generation);
        let bits = |vector: &[f32]| vector.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        if bits(&expected) == bits(found) {
            return Ok(());
        }
        Err(format!("key {key}: the vector is not that of generation {generation}"))
    }

    /// A walk that is as wide as the collection is exact.
    fn nearest(&self, dice: &mut Dice, seen: &mut Seen) -> Result<(), Violation> {
        let (query, k) = (self.query(dice), dice.within(1..=20));
        let hits = self.collection.query(&query).k(k).ef(self.live.len()).run();
        seen.searches += 1;
        self.are_nearest(&query, k, &hits.map_err(|e| e.to_string())?, |_| true)
    }

    /// The same for those that pass a closure, or are in a set.
    fn filtered(&self, dice: &mut Dice, seen: &mut Seen) -> Result<(), Violation> {
        let (query, k, modulus) = (self.query(dice), dice.within(1..=20), dice.within(2..=40) as u64);
        let passes = move |key: u64| key.is_multiple_of(modulus);
        let among: Vec<u64> = self.live.keys().copied().filter(|&key| passes(key)).collect();
        let search = self.collection.query(&query).k(k).ef(self.live.len());
        let hits = if dice.percent(50) { search.filter(passes) } else { search.among(&among) }.run();
        seen.searches += 1;
        self.are_nearest(&query, k, &hits.map_err(|e| e.to_string())?, passes)
    }

    /// Everything within the distance of some vector.
    fn within(&self, dice: &mut Dice, seen: &mut Seen) -> Result<(), Violation> {
        let query = self.query(dice);
        let all = self.by_distance(&query, |_| true);
        let Some(&(radius, _)) = all.get(dice.below(60)) else { return Ok(()) };
        let hits = self.collection.within(&query, radius as f32).exact().run().map_err(|e| e.to_string())?;
        seen.searches += 1;
        // Sums of floats depend on the order of adding, and some lie on the edge.
        let inside = all.partition_point(|(distance, _)| *distance < radius - TOLERANCE);
        let around = all.partition_point(|(distance, _)| *distance < radius + TOLERANCE);
        if !(inside..=around).contains(&hits.len()) {
            return Err(format!("{} hits within {radius}, instead of {inside}..={around}", hits.len()));
        }
        self.are_nearest(&query, hits.len(), &hits, |_| true)
    }

    /// Many at once, on rayon's threads.
    fn many(&self, dice: &mut Dice, seen: &mut Seen) -> Result<(), Violation> {
        let queries: Vec<Vec<f32>> = (0..6).map(|_| self.query(dice)).collect();
        let ef = self.live.len();
        let results = self.collection.search_many(&queries, |query| query.k(10).ef(ef));
        seen.searches += queries.len() as u64;
        for (query, hits) in queries.iter().zip(results.map_err(|e| e.to_string())?) {
            self.are_nearest(query, 10, &hits, |_| true)?;
        }
        Ok(())
    }

    /// As most apps search: as many hits as asked for, all of them alive, at their distances; and nearly always the nearest.
    fn default_effort(&self, dice: &mut Dice, seen: &mut Seen) -> Result<(), Violation> {
        const K: usize = 10;
        let query = self.query(dice);
        let hits = self.collection.search(&query, K).map_err(|e| e.to_string())?;
        seen.searches += 1;
        if hits.len() != K.min(self.live.len()) {
            return Err(format!("{} hits of {} vectors", hits.len(), self.live.len()));
        }
        let all = self.by_distance(&query, |_| true);
        let nearest: BTreeSet<u64> = all.iter().take(K).map(|&(_, key)| key).collect();
        self.are_at_their_distances(&query, &hits)?;
        seen.hits += hits.len() as u64;
        seen.right += hits.iter().filter(|hit| nearest.contains(&hit.key)).count() as u64;
        Ok(())
    }

    /// Near nothing in particular, or where some key's vector is.
    fn query(&self, dice: &mut Dice) -> Vec<f32> {
        match self.live.iter().nth(dice.below(2 * self.live.len().max(1))) {
            Some((&key, &generation)) => vector(self.subject, key, generation),
            None => vector(self.subject, dice.next(), 0),
        }
    }

    fn are_nearest(
        &self,
        query: &[f32],
        k: usize,
        hits: &[Hit],
        passes: impl Fn(u64) -> bool,
    ) -> Result<(), Violation> {
        let all = self.by_distance(query, &passes);
        if hits.len() != k.min(all.len()) {
            return Err(format!("{} hits instead of {}", hits.len(), k.min(all.len())));
        }
        if let Some(hit) = hits.iter().find(|hit| !passes(hit.key)) {
            return Err(format!("key {} does not pass the filter", hit.key));
        }
        for (hit, (distance, key)) in hits.iter().zip(&all) {
            if (f64::from(hit.distance) - distance).abs() > TOLERANCE {
                return Err(format!("{hit:?} instead of key {key} at {distance}"));
            }
        }
        self.are_at_their_distances(query, hits)
    }

    fn are_at_their_distances(&self, query: &[f32], hits: &[Hit]) -> Result<(), Violation> {
        let keys: BTreeSet<u64> = hits.iter().map(|hit| hit.key).collect();
        if keys.len() != hits.len() {
            return Err("a key was hit twice".to_owned());
        }
        for hit in hits {
            let generation = self.live.get(&hit.key).ok_or_else(|| format!("{hit:?} is not alive"))?;
            let distance = self.distance(query, hit.key, *generation);
            if (f64::from(hit.distance) - distance).abs() > TOLERANCE {
                return Err(format!("{hit:?} is at {distance}"));
            }
        }
        Ok(())
    }

    fn by_distance(&self, query: &[f32], passes: impl Fn(u64) -> bool) -> Vec<(f64, u64)> {
        let live = self.live.iter().filter(|(key, _)| passes(**key));
        let mut all: Vec<(f64, u64)> =
            live.map(|(&key, &generation)| (self.distance(query, key, generation), key)).collect();
        all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        all
    }

    fn distance(&self, query: &[f32], key: u64, generation: u64) -> f64 {
        let other = vector(self.subject, key, generation);
        let pairs = || query.iter().zip(&other).map(|(&x, &y)| (f64::from(x), f64::from(y)));
        match SUBJECTS[self.subject].metric {
            Metric::L2 => pairs().map(|(x, y)| (x - y) * (x - y)).sum(),
            _ => {
                let dot: f64 = pairs().map(|(x, y)| x * y).sum();
                let norms: f64 =
                    pairs().map(|(x, _)| x * x).sum::<f64>() * pairs().map(|(_, y)| y * y).sum::<f64>();
                1.0 - dot / norms.sqrt()
            }
        }
    }
}

/// Between distances in f32 and in f64; they are below 100.
const TOLERANCE: f64 = 1e-3;
