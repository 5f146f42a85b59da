//! Which keys a search may return.

use std::borrow::Cow;

use super::hits::{Hit, Hits};

/// A set of keys to search among, for [`Query::among`](super::Query::among).
///
/// It is made from a slice, an array or a `Vec` of keys, from the [`Hits`] of another search, and, with the feature `roaring`, from
/// a `roaring::RoaringTreemap`. Sorted slices and treemaps are borrowed as they are; keys in another order are copied and sorted. A
/// key that occurs twice counts once; keys that the collection does not have are passed over.
///
/// Making one from n keys in a slice costs O(n), to see that they are sorted; a set that serves several searches is made once and
/// passed as `&set`. A search looks keys up in O(log n) steps.
#[derive(Debug, Clone)]
pub struct KeySet<'a>(Form<'a>);

#[derive(Debug, Clone)]
enum Form<'a> {
    /// Ascending.
    Sorted(Cow<'a, [u64]>),
    #[cfg(feature = "roaring")]
    Treemap(&'a roaring::RoaringTreemap),
}

impl KeySet<'_> {
    /// How many keys there are, those that occur twice counted twice.
    pub(super) fn len(&self) -> u64 {
        match &self.0 {
            Form::Sorted(keys) => keys.len() as u64,
            #[cfg(feature = "roaring")]
            Form::Treemap(keys) => keys.len(),
        }
    }

    pub(super) fn contains(&self, key: u64) -> bool {
        match &self.0 {
            Form::Sorted(keys) => keys.binary_search(&key).is_ok(),
            #[cfg(feature = "roaring")]
            Form::Treemap(keys) => keys.contains(key),
        }
    }

    /// The keys in ascending order.
    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = u64> + '_> {
        match &self.0 {
            Form::Sorted(keys) => Box::new(keys.iter().copied()),
            #[cfg(feature = "roaring")]
            Form::Treemap(keys) => Box::new(keys.iter()),
        }
    }
}

/// For several searches among the same keys: whether they are sorted is looked up once.
impl<'a> From<&'a KeySet<'_>> for KeySet<'a> {
    fn from(keys: &'a KeySet<'_>) -> Self {
        match &keys.0 {
            Form::Sorted(keys) => Self(Form::Sorted(Cow::Borrowed(keys))),
            #[cfg(feature = "roaring")]
            Form::Treemap(keys) => Self(Form::Treemap(keys)),
        }
    }
}

impl<'a> From<Cow<'a, [u64]>> for KeySet<'a> {
    fn from(mut keys: Cow<'a, [u64]>) -> Self {
        if !keys.is_sorted() {
            keys.to_mut().sort_unstable();
        }
        Self(Form::Sorted(keys))
    }
}

impl<'a> From<&'a [u64]> for KeySet<'a> {
    fn from(keys: &'a [u64]) -> Self {
        Cow::Borrowed(keys).into()
    }
}

impl<'a, const N: usize> From<&'a [u64; N]> for KeySet<'a> {
    fn from(keys: &'a [u64; N]) -> Self {
        keys.as_slice().into()
    }
}

impl<'a> From<&'a Vec<u64>> for KeySet<'a> {
    fn from(keys: &'a Vec<u64>) -> Self {
        keys.as_slice().into()
    }
}

impl From<Vec<u64>> for KeySet<'_> {
    fn from(keys: Vec<u64>) -> Self {
        Cow::<[u64]>::Owned(keys).into()
    }
}

impl<const N: usize> From<[u64; N]> for KeySet<'_> {
    fn from(keys: [u64; N]) -> Self {
        keys.to_vec().into()
    }
}

impl From<&[Hit]> for KeySet<'_> {
    fn from(hits: &[Hit]) -> Self {
        hits.iter().map(|hit| hit.key).collect::<Vec<_>>().into()
    }
}

impl From<&Hits> for KeySet<'_> {
    fn from(hits: &Hits) -> Self {
        hits[..].into()
    }
}

#[cfg(feature = "roaring")]
impl<'a> From<&'a roaring::RoaringTreemap> for KeySet<'a> {
    fn from(keys: &'a roaring::RoaringTreemap) -> Self {
        Self(Form::Treemap(keys))
    }
}

/// All that a search's hits must pass.
#[derive(Default)]
pub(super) struct Filter<'a> {
    /// The smallest of the sets.
    set: Option<KeySet<'a>>,
    /// What else there is, the other sets included.
    predicate: Option<Predicate<'a>>,
    /// How many keys were asked about.
    pub(super) calls: u64,
}

type Predicate<'a> = Box<dyn FnMut(u64) -> bool + 'a>;

impl<'a> Filter<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_none() && self.predicate.is_none()
    }

    pub(super) fn and(&mut self, mut predicate: impl FnMut(u64) -> bool + 'a) {
        self.predicate = Some(match self.predicate.take() {
            Some(mut first) => Box::new(move |key| first(key) && predicate(key)),
            None => Box::new(predicate),
        });
    }

    pub(super) fn and_among(&mut self, set: KeySet<'a>) {
        let Some(other) = self.set.take() else {
            self.set = Some(set);
            return;
        };
        let (smaller, larger) = if set.len() < other.len() { (set, other) } else { (other, set) };
        self.set = Some(smaller);
        self.and(move |key| larger.contains(key));
    }

    pub(super) fn set(&self) -> Option<&KeySet<'a>> {
        self.set.as_ref()
    }

    /// True when the key passes.
    #[inline]
    pub(super) fn admits(&mut self, key: u64) -> bool {
        self.calls += 1;
        self.set.as_ref().is_none_or(|set| set.contains(key)) && self.passes(key)
    }

    /// The same for a key of the set.
    pub(super) fn admits_of_set(&mut self, key: u64) -> bool {
        self.calls += 1;
        self.passes(key)
    }

    fn passes(&mut self, key: u64) -> bool {
        self.predicate.as_mut().is_none_or(|predicate| predicate(key))
    }
}
