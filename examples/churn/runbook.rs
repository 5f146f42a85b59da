//! What happens to a collection, round by round.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::options::{Kind, Options};
use crate::world::{World, squared_l2};

/// A change of one key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    Remove(u64),
    Insert(u64, usize),
    Update(u64, usize),
}

/// Which row of the base each live key holds.
pub(crate) type Live = BTreeMap<u64, usize>;

/// An endless series of rounds, except for [`Kind::InsertionOrder`], which ends when everything is in.
pub(crate) struct Runbook<'a> {
    kind: Kind,
    world: &'a World,
    rng: StdRng,
    /// How many vectors a round replaces.
    share: usize,
    round: usize,
    live: Live,
    /// Rows that are not live, in the order in which they come.
    pool: VecDeque<usize>,
    /// The keys of this lap, in the order in which they go; each lap replaces everything once.
    leaving: VecDeque<u64>,
    /// Keys by the round in which they expire.
    expiring: BTreeMap<usize, Vec<u64>>,
    next_key: u64,
}

impl<'a> Runbook<'a> {
    pub(crate) fn new(kind: Kind, world: &'a World, options: &Options) -> Self {
        let mut rng = StdRng::seed_from_u64(options.seed);
        let mut rows = world.order.clone();
        if !matches!(kind, Kind::Sliding | Kind::InsertionOrder) {
            rows.shuffle(&mut rng);
        }
        let at_first = match kind {
            Kind::InsertionOrder => options.share.of(rows.len()),
            _ => options.live.of(rows.len()),
        };
        let share = match kind {
            Kind::InsertionOrder => at_first,
            _ => options.share.of(at_first),
        };
        let mut runbook = Self {
            kind,
            world,
            rng,
            share,
            round: 0,
            live: Live::new(),
            pool: rows.into(),
            leaving: VecDeque::new(),
            expiring: BTreeMap::new(),
            next_key: 0,
        };
        for row in runbook.arrivals(at_first) {
            let key = runbook.admit(row);
            // Of what is there at first the same part goes in each of the first twenty rounds.
            if kind == Kind::Expiration && runbook.rng.random_range(0..10) != 0 {
                let round = runbook.rng.random_range(1..=20);
                runbook.expiring.entry(round).or_default().push(key);
            }
        }
        runbook
    }

    /// What is live.
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// The changes of the next round, those of a kind together.
    pub(crate) fn next_round(&mut self) -> Vec<Vec<Change>> {
        self.round += 1;
        match self.kind {
            Kind::InsertionOrder => {
                let arrivals = self.arrivals(self.share);
                vec![self.insert(arrivals)]
            }
            Kind::Expiration => {
                let leaving = self.expiring.remove(&self.round).unwrap_or_default();
                self.replace(leaving)
            }
            Kind::Clustered => self.replace_region(),
            Kind::Update => {
                let mut leaving = self.leaving();
                let kept = leaving.split_off(leaving.len() / 2);
                let count = leaving.len();
                let removals = self.remove(leaving);
                let updates = self.update(kept);
                let arrivals = self.arrivals(count);
                vec![removals, updates, self.insert(arrivals)]
            }
            _ => {
                let leaving = self.leaving();
                self.replace(leaving)
            }
        }
    }

    /// The next keys to go.
    fn leaving(&mut self) -> Vec<u64> {
        let mut leaving = Vec::with_capacity(self.share);
        while leaving.len() < self.share {
            match self.leaving.pop_front() {
                Some(key) => leaving.push(key),
                None => {
                    // Keys ascend in the order of insertion.
                    let gone: BTreeSet<u64> = leaving.iter().copied().collect();
                    let mut keys: Vec<u64> =
                        self.live.keys().copied().filter(|key| !gone.contains(key)).collect();
                    if self.kind != Kind::Sliding {
                        keys.shuffle(&mut self.rng);
                    }
                    self.leaving = keys.into();
                }
            }
        }
        leaving
    }

    fn replace(&mut self, leaving: Vec<u64>) -> Vec<Vec<Change>> {
        let count = leaving.len();
        let removals = self.remove(leaving);
        let arrivals = self.arrivals(count);
        vec![removals, self.insert(arrivals)]
    }

    fn update(&mut self, keys: Vec<u64>) -> Vec<Change> {
        let mut changes = Vec::with_capacity(keys.len());
        for key in keys {
            if let (Some(row), Some(held)) = (self.pool.pop_front(), self.live.get_mut(&key)) {
                self.pool.push_back(std::mem::replace(held, row));
                changes.push(Change::Update(key, row));
            }
        }
        changes
    }

    fn replace_region(&mut self) -> Vec<Vec<Change>> {
        let live: Vec<(u64, usize)> = self.live.iter().map(|(&key, &row)| (key, row)).collect();
        let mut leaving = self.region(live);
        leaving.shuffle(&mut self.rng);
        // What comes is from elsewhere, unless there is nothing else.
        let others: Vec<(u64, usize)> = self.pool.iter().map(|&row| (0, row)).collect();
        let removals = self.remove(leaving.into_iter().map(|(key, _)| key).collect());
        let others = match others.len() < self.share {
            true => self.pool.iter().map(|&row| (0, row)).collect(),
            false => others,
        };
        let mut arrivals: Vec<usize> = self.region(others).into_iter().map(|(_, row)| row).collect();
        arrivals.shuffle(&mut self.rng);
        let taken: BTreeSet<usize> = arrivals.iter().copied().collect();
        self.pool.retain(|row| !taken.contains(row));
        vec![removals, self.insert(arrivals)]
    }

    /// Of `all`, a round's share: those nearest to a random one of them.
    fn region(&mut self, mut all: Vec<(u64, usize)>) -> Vec<(u64, usize)> {
        let base = &self.world.base;
        let (_, pivot) = all[self.rng.random_range(0..all.len())];
        all.sort_by_cached_key(|&(_, row)| (squared_l2(base.row(pivot), base.row(row)).to_bits(), row));
        all.truncate(self.share);
        all
    }

    fn remove(&mut self, keys: Vec<u64>) -> Vec<Change> {
        for key in &keys {
            self.pool.extend(self.live.remove(key));
        }
        keys.into_iter().map(Change::Remove).collect()
    }

    fn arrivals(&mut self, count: usize) -> Vec<usize> {
        self.pool.drain(..count.min(self.pool.len())).collect()
    }

    fn insert(&mut self, rows: Vec<usize>) -> Vec<Change> {
        let mut changes = Vec::with_capacity(rows.len());
        for row in rows {
            let key = self.admit(row);
            if self.kind == Kind::Expiration {
                let rounds = match self.rng.random_range(0..10) {
                    0..6 => 5,
                    6..9 => 20,
                    _ => usize::MAX,
                };
                self.expiring.entry(self.round.saturating_add(rounds)).or_default().push(key);
            }
            changes.push(Change::Insert(key, row));
        }
        changes
    }

    fn admit(&mut self, row: usize) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        self.live.insert(key, row);
        key
    }
}
