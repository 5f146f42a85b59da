//! The one that changes everything.

use std::path::Path;
use std::time::{Duration, Instant};

use nestling::{CollectionMut, Durability, Store, WriteTransaction};

use crate::Violation;
use crate::claim::{self, Claim, Generations, SEALS, SUBJECTS, vector};
use crate::dice::Dice;
use crate::evidence::{Evidence, Held};

/// After so many commits the writer looks at how many slots there are.
const STRETCH: u64 = 5;
/// An era has at least so many transactions, on a slow machine too.
const TRANSACTIONS: u64 = 48;
/// Every so many transactions the passing collection is dropped, and one collection replaced as a whole.
const DROPS: u64 = 20;
const REPLACEMENTS: u64 = 35;

pub struct Writer {
    dice: Dice,
    /// What the last commit holds.
    state: Claim,
    /// Given out so far.
    generation: u64,
    /// Begun so far.
    transactions: u64,
    drop_due: bool,
    replacement_due: bool,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Durable,
    NotDurable,
    Abort,
    Drop,
}

/// Commits between two looks at the lasting collection.
struct Stretch {
    begun_at: u64,
    slots: u64,
    inserted: u64,
    /// A reader held an older snapshot at each of them.
    held: bool,
}

impl Writer {
    pub fn new(dice: Dice) -> Self {
        Self {
            dice,
            state: Claim::default(),
            generation: 0,
            transactions: 0,
            drop_due: false,
            replacement_due: false,
        }
    }

    /// Commits and aborts until time is up, or somebody else has ended the era.
    pub fn write(
        &mut self,
        store: &Store,
        path: &Path,
        held: &Held,
        ended: &dyn Fn() -> bool,
        time: Duration,
        evidence: &mut Evidence,
    ) -> Result<(), Violation> {
        let start = Instant::now();
        let mut stretch = Stretch::begin(store)?;
        let enough = self.transactions + TRANSACTIONS;
        while (start.elapsed() < time || self.transactions < enough) && !ended() {
            let before = held.oldest();
            let fail = |e: nestling::Error| format!("the writer: {e}");
            let inserted = self.transact(store, evidence).map_err(fail)?;
            stretch.inserted += inserted;
            stretch.held &= before < stretch.begun_at;
            let commit = store.begin_read().map_err(fail)?.commit_number();
            if commit >= stretch.begun_at + STRETCH {
                stretch.end(store, evidence)?;
                stretch = Stretch::begin(store)?;
                // Files go while readers look at them.
                let files = crate::evidence::segment_files(path);
                let given_out = files.last().map_or(0, |&last| last as usize + 1);
                evidence.segments_unlinked = evidence.segments_unlinked.max(given_out - files.len());
            }
        }
        Ok(())
    }

    /// Makes the last commit durable, so that the files of dropped collections go, and verifies it.
    pub fn settle(&mut self, store: &Store) -> Result<(), Violation> {
        let tx = store.begin_write().map_err(|e| e.to_string())?;
        seal(&tx, &self.state, number(store)? + 1).map_err(|e| e.to_string())?;
        tx.commit().map_err(|e| e.to_string())?;
        let found = claim::read(&store.begin_read().map_err(|e| e.to_string())?)?;
        if found != self.state {
            return Err("the last commit is not the one that was made last".to_owned());
        }
        Ok(())
    }

    /// One transaction; tells how many vectors it has stored in the lasting collection.
    fn transact(&mut self, store: &Store, evidence: &mut Evidence) -> nestling::Result<u64> {
        let end =
            self.dice.weighted(&[(55, End::Durable), (32, End::NotDurable), (7, End::Abort), (6, End::Drop)]);
        self.transactions += 1;
        self.drop_due |= self.transactions.is_multiple_of(DROPS);
        self.replacement_due |= self.transactions.is_multiple_of(REPLACEMENTS);
        let mut tx = store.begin_write()?;
        let commit = store.begin_read()?.commit_number() + 1;
        let mut state = self.state.clone();
        let mut inserted = 0;
        for _ in 0..self.dice.within(1..=3) {
            let subject = self.dice.below(SUBJECTS.len());
            let stored = self.change(&tx, subject, &mut state[subject], evidence)?;
            inserted += if subject == 0 { stored } else { 0 };
        }
        seal(&tx, &state, commit)?;
        match end {
            End::Abort => tx.abort()?,
            End::Drop => drop(tx),
            End::Durable => tx.commit()?,
            End::NotDurable => {
                tx.set_durability(Durability::None);
                tx.commit()?;
            }
        }
        if let End::Abort | End::Drop = end {
            evidence.aborts += 1;
            return Ok(0);
        }
        evidence.commits += 1;
        evidence.not_durable += u64::from(matches!(end, End::NotDurable));
        self.state = state;
        Ok(inserted)
    }

    /// Changes a collection and its table; tells how many vectors were stored.
    fn change(
        &mut self,
        tx: &WriteTransaction,
        subject: usize,
        state: &mut Option<Generations>,
        evidence: &mut Evidence,
    ) -> nestling::Result<u64> {
        let definition = SUBJECTS[subject].definition;
        if subject != 0 && self.drop_due && state.is_some() {
            self.drop_due = false;
            assert!(tx.drop_collection(definition.name())?, "it was there");
            tx.delete_table(SUBJECTS[subject].generations)?;
            *state = None;
            evidence.dropped += 1;
            // Some are recreated in the same transaction.
            if self.dice.percent(60) {
                return Ok(0);
            }
        }
        let live = state.get_or_insert_default();
        let mut collection = tx.open_collection(definition)?;
        let mut table = tx.open_table(SUBJECTS[subject].generations)?;
        let before = live.clone();
        let stored = match self.dice.below(100) {
            _ if std::mem::take(&mut self.replacement_due) => {
                evidence.replaced_everything += 1;
                self.replace_all(&mut collection, subject, live)?
            }
            0..55 => self.change_some(&mut collection, subject, live)?,
            55..94 => self.insert_many(&mut collection, subject, live)?,
            _ => self.remove_many(&mut collection, live)?,
        };
        if self.dice.percent(10) {
            let refused = collection.insert(0, &[f32::NAN; claim::DIMENSION]);
            assert!(refused.is_err_and(|e| e.is_input()), "not a number is no vector");
            evidence.refused += 1;
        }
        self.look(&collection, subject, live)?;
        for key in before.keys().filter(|key| !live.contains_key(key)) {
            table.remove(key)?;
        }
        for (key, generation) in live.iter().filter(|(key, generation)| before.get(key) != Some(generation)) {
            table.insert(key, generation)?;
        }
        Ok(stored)
    }

    /// Single insertions, updates and removals.
    fn change_some(
        &mut self,
        collection: &mut CollectionMut<'_>,
        subject: usize,
        live: &mut Generations,
    ) -> nestling::Result<u64> {
        let mut stored = 0;
        for _ in 0..self.dice.within(1..=12) {
            let key = self.key(subject);
            if live.len() > SUBJECTS[subject].live && self.dice.percent(60) {
                assert_eq!(collection.remove(key)?, live.remove(&key).is_some());
            } else {
                let generation = self.generation();
                let replaced = collection.insert(key, &vector(subject, key, generation))?;
                assert_eq!(replaced, live.insert(key, generation).is_some());
                stored += 1;
            }
        }
        Ok(stored)
    }

    fn insert_many(
        &mut self,
        collection: &mut CollectionMut<'_>,
        subject: usize,
        live: &mut Generations,
    ) -> nestling::Result<u64> {
        let room = SUBJECTS[subject].live.saturating_sub(live.len());
        let count = self.dice.within(1..=40.max(room.min(200)));
        let fresh: Generations = (0..count).map(|_| (self.key(subject), self.generation())).collect();
        let vectors = fresh.iter().map(|(&key, &generation)| (key, vector(subject, key, generation)));
        collection.insert_many(vectors)?;
        let stored = fresh.len() as u64;
        live.extend(fresh);
        Ok(stored)
    }

    fn remove_many(
        &mut self,
        collection: &mut CollectionMut<'_>,
        live: &mut Generations,
    ) -> nestling::Result<u64> {
        let removed: Vec<u64> = live.keys().copied().filter(|_| self.dice.percent(15)).collect();
        for key in removed {
            assert!(collection.remove(key)?, "it was there");
            live.remove(&key);
        }
        Ok(0)
    }

    fn replace_all(
        &mut self,
        collection: &mut CollectionMut<'_>,
        subject: usize,
        live: &mut Generations,
    ) -> nestling::Result<u64> {
        for generation in live.values_mut() {
            self.generation += 1;
            *generation = self.generation;
        }
        collection
            .insert_many(live.iter().map(|(&key, &generation)| (key, vector(subject, key, generation))))?;
        Ok(live.len() as u64)
    }

    /// The writer sees its own changes.
    fn look(
        &mut self,
        collection: &CollectionMut<'_>,
        subject: usize,
        live: &Generations,
    ) -> nestling::Result<()> {
        assert_eq!(collection.len(), live.len() as u64);
        if let Some((&key, &generation)) = live.iter().nth(self.dice.below(live.len().max(1))) {
            let expected = vector(subject, key, generation);
            assert_eq!(collection.get(key)?.as_deref(), Some(expected.as_slice()));
            let nearest = collection.query(&expected).k(1).ef(live.len()).run()?;
            assert_eq!(nearest.first().map(|hit| hit.key), Some(key));
        }
        Ok(())
    }

    fn key(&mut self, subject: usize) -> u64 {
        self.dice.below(SUBJECTS[subject].keys) as u64
    }

    fn generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }
}

/// Has the tables tell what the commit of this number holds.
fn seal(tx: &WriteTransaction, state: &Claim, commit: u64) -> nestling::Result<()> {
    let mut seals = tx.open_table(SEALS)?;
    for (subject, generations) in SUBJECTS.iter().zip(state) {
        let name = subject.definition.name();
        match generations {
            None => drop(seals.remove(name)?),
            Some(live) => drop(seals.insert(name, (commit, live.len() as u64, claim::digest(live)))?),
        }
    }
    Ok(())
}

fn number(store: &Store) -> Result<u64, Violation> {
    Ok(store.begin_read().map_err(|e| e.to_string())?.commit_number())
}

impl Stretch {
    fn begin(store: &Store) -> Result<Self, Violation> {
        Ok(Self { begun_at: number(store)?, slots: slots(store)?, inserted: 0, held: true })
    }

    /// Whatever was stored and did not take a new slot went to one that had been in use.
    fn end(self, store: &Store, evidence: &mut Evidence) -> Result<(), Violation> {
        let reused = self.inserted.saturating_sub(slots(store)? - self.slots);
        evidence.slots_reused += reused;
        evidence.slots_reused_under_snapshots += if self.held { reused } else { 0 };
        Ok(())
    }
}

/// Slots of the lasting collection.
fn slots(store: &Store) -> Result<u64, Violation> {
    let stats = store.stats().map_err(|e| e.to_string())?;
    let lasting = stats.collections.iter().find(|stats| stats.name == SUBJECTS[0].definition.name());
    Ok(lasting.map_or(0, |stats| stats.slots))
}
