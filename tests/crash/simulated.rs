//! A disk that the power may leave: what is on it for certain, and what may or may not have reached it.
//!
//! - Bytes written and lengths set since a file's last sync are *pending*. Each may be there or not, whatever became of
//!   those before and after it. A write may be there in part: some of its sectors (512 B) or of its pages (4 KiB). Bytes
//!   outside of a write keep their value.
//! - A length may be there without the bytes: they are zeros then. Bytes past a length that was lost are lost as well, or bring
//!   their part of the length with them, as file systems differ.
//! - Names created, renamed and removed are pending until the directory is synced; a rename is there or not, as a whole. So a
//!   synced file may be lost with its name, and a name may lead to a file of which nothing else is there. The name of the
//!   store's directory itself is pending until its parent is synced.
//! - What was pending when a sync failed stays uncertain for ever: the system may have dropped it and forgotten.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use crate::disk::dice::Dice;
use crate::disk::observer::Op;

/// Names to contents.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The disk at some point of a trace.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk {
    inodes: Vec<Inode>,
    /// As they are for certain.
    names: BTreeMap<String, usize>,
    name_changes: Vec<Uncertain<NameChange>>,
    /// As the running process sees them.
    current: BTreeMap<String, usize>,
    /// The directory's own name is durable.
    exists: bool,
    /// The last operation that made something certain, or uncertain for ever.
    settled: usize,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    /// As it is for certain.
    content: Arc<Vec<u8>>,
    changes: Vec<Uncertain<DataChange>>,
}

#[derive(Debug, Clone)]
struct Uncertain<T> {
    change: T,
    /// The place in the trace, to keep the changes of several files in order.
    at: usize,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The next sync makes it certain.
    Pending,
    /// A sync failed: no later one helps.
    Doubtful,
    /// It came after something doubtful, and was synced.
    Certain,
}

#[derive(Debug, Clone)]
enum DataChange {
    Write(u64, Arc<[u8]>),
    SetLen(u64),
}

/// Names that lead elsewhere afterwards.
#[derive(Debug, Clone)]
struct NameChange {
    gone: Option<String>,
    new: Option<(String, usize)>,
}

/// What is left of the pending changes.
#[derive(Debug, Clone)]
pub struct Choice {
    /// One for each change, in the order of [`SimulatedDisk::pending`].
    kept: Vec<Kept>,
    /// Bytes past a length that was lost bring that length with them.
    stretches: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kept {
    No,
    Yes,
    /// Blocks of such a size, each by the toss of a coin that this seeds.
    Torn(u64, u64),
}

impl SimulatedDisk {
    /// A disk on which these files are durable; `None`: not even their directory.
    pub fn holding(files: Option<Files>) -> Self {
        let mut disk = Self { exists: files.is_some(), ..Self::default() };
        for (name, content) in files.unwrap_or_default() {
            disk.names.insert(name.clone(), disk.inodes.len());
            disk.current.insert(name, disk.inodes.len());
            disk.inodes.push(Inode { content: Arc::new(content), changes: Vec::new() });
        }
        disk
    }

    /// Performs one more operation of the trace.
    pub fn perform(&mut self, at: usize, op: &Op) {
        if !matches!(op, Op::Create(_) | Op::Write(..) | Op::SetLen(..) | Op::Rename(..) | Op::Remove(_)) {
            self.settled = at;
        }
        match op {
            Op::Create(file) => {
                let inode = self.inodes.len();
                self.inodes.push(Inode::default());
                self.current.insert(file.clone(), inode);
                self.change_names(at, NameChange { gone: None, new: Some((file.clone(), inode)) });
            }
            Op::Write(file, offset, bytes) => {
                self.change_data(at, file, DataChange::Write(*offset, bytes.clone()))
            }
            Op::SetLen(file, len) => self.change_data(at, file, DataChange::SetLen(*len)),
            Op::Sync(file) => {
                let inode = self.inode(file);
                settle(&mut inode.changes);
                let certain = take_certain(&mut inode.changes);
                let content = Arc::make_mut(&mut inode.content);
                for change in certain {
                    apply_data(content, &change, Kept::Yes, None);
                }
            }
            Op::FailedSync(file) => doubt(&mut self.inode(file).changes),
            Op::Rename(from, to) => {
                let inode = self.current.remove(from).expect("a file that is renamed exists");
                self.current.insert(to.clone(), inode);
                self.change_names(
                    at,
                    NameChange { gone: Some(from.clone()), new: Some((to.clone(), inode)) },
                );
            }
            Op::Remove(file) => {
                self.current.remove(file);
                self.change_names(at, NameChange { gone: Some(file.clone()), new: None });
            }
            Op::SyncDirectory => {
                settle(&mut self.name_changes);
                for change in take_certain(&mut self.name_changes) {
                    apply_name(&mut self.names, &change);
                }
            }
            Op::FailedSyncDirectory => doubt(&mut self.name_changes),
            Op::SyncParent => self.exists = true,
            Op::FailedSyncParent | Op::Ignored => {}
        }
    }

    fn inode(&mut self, file: &str) -> &mut Inode {
        let inode = *self.current.get(file).unwrap_or_else(|| panic!("{file} exists in the trace"));
        &mut self.inodes[inode]
    }

    fn change_data(&mut self, at: usize, file: &str, change: DataChange) {
        self.inode(file).changes.push(Uncertain { change, at, fate: Fate::Pending });
    }

    fn change_names(&mut self, at: usize, change: NameChange) {
        self.name_changes.push(Uncertain { change, at, fate: Fate::Pending });
    }

    /// What may or may not be there: the directory itself, names, then data in the order of the trace.
    fn pending(&self) -> Pending {
        let uncertain = |fate: Fate| fate != Fate::Certain;
        let names = self.name_changes.iter().enumerate().filter(|(_, change)| uncertain(change.fate));
        let mut data: Vec<(usize, usize, usize)> = Vec::new();
        for (inode, file) in self.inodes.iter().enumerate() {
            let changes = file.changes.iter().enumerate().filter(|(_, change)| uncertain(change.fate));
            data.extend(changes.map(|(i, change)| (change.at, inode, i)));
        }
        data.sort_unstable();
        Pending {
            directory: !self.exists,
            names: names.map(|(i, _)| i).collect(),
            data: data.into_iter().map(|(_, inode, i)| (inode, i)).collect(),
        }
    }

    /// Draws what is left.
    pub fn choose(&self, dice: &mut Dice) -> Choice {
        let pending = self.pending();
        let heads = usize::from(pending.directory) + pending.names.len();
        let inodes: Vec<usize> = pending.data.iter().map(|(inode, _)| *inode).collect();
        let mut kept = draw(heads, &inodes, dice);
        if dice.percent(60) {
            // Without its name nothing of a file counts.
            kept[..heads].fill(Kept::Yes);
        }
        Choice { kept, stretches: dice.percent(50) }
    }

    /// Everything is left, as for a process that comes after one that was killed.
    pub fn keep_all(&self) -> Choice {
        let pending = self.pending();
        let n = usize::from(pending.directory) + pending.names.len() + pending.data.len();
        Choice { kept: vec![Kept::Yes; n], stretches: false }
    }

    /// The files that are found afterwards; `None`: the directory is lost.
    pub fn image(&self, choice: &Choice) -> Option<Files> {
        let pending = self.pending();
        let mut kept = choice.kept.iter().copied();
        if pending.directory && kept.next() == Some(Kept::No) {
            return None;
        }
        let mut names = self.names.clone();
        let mut uncertain = pending.names.iter().peekable();
        for (i, change) in self.name_changes.iter().enumerate() {
            let keep = if uncertain.next_if(|&&next| next == i).is_some() { kept.next() } else { None };
            if keep != Some(Kept::No) {
                apply_name(&mut names, &change.change);
            }
        }
        let mut fates: BTreeMap<(usize, usize), Kept> = pending.data.iter().copied().zip(kept).collect();
        let mut files = Files::new();
        for (name, inode) in names {
            let file = &self.inodes[inode];
            let mut content = (*file.content).clone();
            let mut bound = (!choice.stretches).then_some(content.len() as u64);
            for (i, change) in file.changes.iter().enumerate() {
                let kept = fates.remove(&(inode, i)).unwrap_or(Kept::Yes);
                if let (DataChange::SetLen(len), Some(bound)) = (&change.change, &mut bound)
                    && kept == Kept::Yes
                {
                    *bound = *len;
                }
                // A length that the write itself brought is lost or kept with the write.
                let bound = bound.map(|bound| if file.sets_len_before(i) { bound } else { u64::MAX });
                apply_data(&mut content, &change.change, kept, bound);
            }
            files.insert(name, content);
        }
        Some(files)
    }

    /// Choices of the same signature lead to the same image, on disks of the same trace.
    pub fn signature(&self, choice: &Choice) -> u64 {
        let pending = self.pending();
        let at = pending.names.iter().map(|&i| self.name_changes[i].at);
        let at = at.chain(pending.data.iter().map(|&(inode, i)| self.inodes[inode].changes[i].at));
        let mut hasher = DefaultHasher::new();
        (self.settled, pending.directory, choice.stretches).hash(&mut hasher);
        let heads = usize::from(pending.directory);
        choice.kept[..heads].hash(&mut hasher);
        let kept = at.zip(&choice.kept[heads..]).filter(|(_, kept)| **kept != Kept::No);
        kept.for_each(|kept| kept.hash(&mut hasher));
        hasher.finish()
    }

    /// In words, for whoever has to find out what went wrong.
    pub fn describe(&self, choice: &Choice) -> String {
        use std::fmt::Write;
        let pending = self.pending();
        let mut kept = choice.kept.iter();
        let mut text = String::new();
        if pending.directory {
            let _ = writeln!(text, "  the directory's name: {:?}", kept.next());
        }
        for &i in &pending.names {
            let _ = writeln!(text, "  {:?}: {:?}", self.name_changes[i].change, kept.next());
        }
        for &(inode, i) in &pending.data {
            let name =
                self.current.iter().find(|(_, found)| **found == inode).map_or("(gone)", |(name, _)| name);
            let change = match &self.inodes[inode].changes[i].change {
                DataChange::Write(offset, bytes) => format!("write {offset}+{}", bytes.len()),
                DataChange::SetLen(len) => format!("length {len}"),
            };
            let _ = writeln!(text, "  {name}: {change}: {:?}", kept.next());
        }
        let _ = write!(text, "  lost lengths stretch: {}", choice.stretches);
        text
    }
}

impl Inode {
    /// Whether a length was set explicitly among the changes before this one.
    fn sets_len_before(&self, i: usize) -> bool {
        self.changes[..i].iter().any(|change| matches!(change.change, DataChange::SetLen(_)))
    }
}

struct Pending {
    directory: bool,
    /// Places in `name_changes`.
    names: Vec<usize>,
    /// Inodes and places in their `changes`.
    data: Vec<(usize, usize)>,
}

/// Draws which of the changes are kept: the extremes as well as all between.
fn draw(heads: usize, inodes: &[usize], dice: &mut Dice) -> Vec<Kept> {
    let n = heads + inodes.len();
    let all = |kept| vec![kept; n];
    if n == 0 {
        return Vec::new();
    }
    let coin = |percent, dice: &mut Dice| if dice.percent(percent) { Kept::Yes } else { Kept::No };
    match dice.below(100) {
        0..3 => all(Kept::No),
        3..10 => all(Kept::Yes),
        // One alone.
        10..22 => {
            let mut kept = all(Kept::No);
            kept[dice.below(n)] = Kept::Yes;
            kept
        }
        // All but one.
        22..36 => {
            let mut kept = all(Kept::Yes);
            kept[dice.below(n)] = Kept::No;
            kept
        }
        // As if they had been written in order.
        36..44 => {
            let end = dice.below(n + 1);
            (0..n).map(|i| if i < end { Kept::Yes } else { Kept::No }).collect()
        }
        // One file has made it, the others have not, or the other way round.
        44..52 if !inodes.is_empty() => {
            let inode = dice.pick(inodes);
            let (its, others) = dice.pick(&[(Kept::Yes, Kept::No), (Kept::No, Kept::Yes)]);
            let of = |found: &usize| if *found == inode { its } else { others };
            std::iter::repeat_n(Kept::Yes, heads).chain(inodes.iter().map(of)).collect()
        }
        44..68 => {
            let percent = dice.pick(&[10, 30, 50, 70, 90]);
            (0..n).map(|_| coin(percent, dice)).collect()
        }
        // Torn: a single write, or many.
        _ => {
            let percent = dice.pick(&[50, 90, 100]);
            let mut kept: Vec<Kept> = (0..n).map(|_| coin(percent, dice)).collect();
            let size = dice.pick(&[512, 4096]);
            let many = dice.percent(50);
            let single = heads + dice.below(inodes.len().max(1));
            for (i, kept) in kept.iter_mut().enumerate().skip(heads) {
                if i == single || (many && dice.percent(40)) {
                    *kept = Kept::Torn(size, dice.next());
                }
            }
            kept
        }
    }
}

fn settle<T>(changes: &mut [Uncertain<T>]) {
    for change in changes.iter_mut().filter(|change| change.fate == Fate::Pending) {
        change.fate = Fate::Certain;
    }
}

fn doubt<T>(changes: &mut [Uncertain<T>]) {
    for change in changes.iter_mut().filter(|change| change.fate == Fate::Pending) {
        change.fate = Fate::Doubtful;
    }
}

/// Takes out what is certain and does not come after anything that is not.
fn take_certain<T>(changes: &mut Vec<Uncertain<T>>) -> Vec<T> {
    let n = changes.iter().take_while(|change| change.fate == Fate::Certain).count();
    changes.drain(..n).map(|change| change.change).collect()
}

fn apply_name(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    if let Some(gone) = &change.gone {
        names.remove(gone);
    }
    if let Some((name, inode)) = &change.new {
        // Under a name that was lost before its file was renamed there is nothing.
        names.insert(name.clone(), *inode);
    }
}

/// Applies what is kept of a change. Bytes at and past `bound` are lost.
fn apply_data(content: &mut Vec<u8>, change: &DataChange, kept: Kept, bound: Option<u64>) {
    match (change, kept) {
        (_, Kept::No) => {}
        (DataChange::SetLen(len), Kept::Yes) => content.resize(*len as usize, 0),
        // A length is there or not.
        (DataChange::SetLen(len), Kept::Torn(_, coins)) => {
            if coins % 2 == 0 {
                content.resize(*len as usize, 0);
            }
        }
        (DataChange::Write(offset, bytes), Kept::Yes) => write(content, *offset, bytes, bound),
        (DataChange::Write(offset, bytes), Kept::Torn(size, coins)) => {
            let mut coins = Dice::new(coins);
            let (mut at, end) = (*offset, offset + bytes.len() as u64);
            while at < end {
                let next = ((at / size + 1) * size).min(end);
                if coins.percent(50) {
                    write(content, at, &bytes[(at - offset) as usize..(next - offset) as usize], bound);
                }
                at = next;
            }
        }
    }
}

fn write(content: &mut Vec<u8>, offset: u64, bytes: &[u8], bound: Option<u64>) {
    let offset = offset as usize;
    let room = bound.map_or(usize::MAX, |bound| (bound as usize).saturating_sub(offset));
    let bytes = &bytes[..bytes.len().min(room)];
    let end = offset + bytes.len();
    if bytes.is_empty() {
        return;
    }
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

/// Puts an image on a real file system. Zeros are left out: tmpfs takes time and memory for them.
pub fn put(files: Option<&Files>, path: &Path) {
    use std::os::unix::fs::FileExt;
    const PAGE: usize = 4096;
    let Some(files) = files else { return };
    std::fs::create_dir(path).unwrap();
    for (name, content) in files {
        let file = std::fs::File::create_new(path.join(name)).unwrap();
        file.set_len(content.len() as u64).unwrap();
        let is_zero = |page: &[u8]| page == &[0; PAGE][..page.len()];
        let mut at = 0;
        while at < content.len() {
            let pages = content[at..].chunks(PAGE);
            let zeros: usize = pages.take_while(|page| is_zero(page)).map(<[u8]>::len).sum();
            at += zeros;
            let pages = content[at..].chunks(PAGE);
            let run: usize = pages.take_while(|page| !is_zero(page)).map(<[u8]>::len).sum();
            file.write_all_at(&content[at..at + run], at as u64).unwrap();
            at += run;
        }
    }
}

/// A digest that tells images apart. In four lanes, since one multiplication has to wait for the one before.
pub fn digest(files: Option<&Files>) -> u64 {
    let mut lanes = [1_u64, 2, 3, 4].map(|lane| lane.wrapping_mul(0x1234_5678_9abc_def1));
    let mix = |lane: u64, word: u64| {
        let mixed = (lane ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 29
    };
    for (name, content) in files.into_iter().flatten() {
        name.bytes().for_each(|byte| lanes[0] = mix(lanes[0], u64::from(byte)));
        lanes[1] = mix(lanes[1], content.len() as u64);
        let (blocks, rest) = content.as_chunks::<32>();
        for block in blocks {
            for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
                *lane = mix(*lane, u64::from_le_bytes(*word));
            }
        }
        rest.iter().for_each(|&byte| lanes[2] = mix(lanes[2], u64::from(byte)));
    }
    lanes.into_iter().fold(u64::from(files.is_some()), mix)
}

/// What the disk may be left with, in small.
mod tests {
    use super::*;

    fn after(ops: &[Op]) -> SimulatedDisk {
        let mut disk = SimulatedDisk::holding(Some(Files::new()));
        for (at, op) in ops.iter().enumerate() {
            disk.perform(at, op);
        }
        disk
    }

    /// All images that a thousand draws lead to.
    fn images(disk: &SimulatedDisk) -> Vec<Files> {
        let mut images: Vec<Files> = Vec::new();
        for seed in 0..1000 {
            let image = disk.image(&disk.choose(&mut Dice::new(seed))).expect("the directory exists");
            if !images.contains(&image) {
                images.push(image);
            }
        }
        images
    }

    fn write(offset: u64, bytes: Vec<u8>) -> Op {
        Op::Write("a".to_owned(), offset, bytes.into())
    }

    fn a() -> String {
        "a".to_owned()
    }

    #[test]
    fn what_is_synced_is_there_and_what_is_not_may_be() {
        let synced = [Op::Create(a()), write(0, vec![1; 4]), Op::Sync(a()), Op::SyncDirectory];
        assert_eq!(images(&after(&synced)), [Files::from([(a(), vec![1; 4])])]);
        let pending = [&synced[..], &[write(0, vec![2; 2]), write(3, vec![3; 3])]].concat();
        let mut contents: Vec<_> =
            images(&after(&pending)).into_iter().map(|files| files[&a()].clone()).collect();
        contents.sort();
        let expected = [vec![1, 1, 1, 1], vec![1, 1, 1, 3, 3, 3], vec![2, 2, 1, 1], vec![2, 2, 1, 3, 3, 3]];
        assert_eq!(contents, expected);
    }

    #[test]
    fn a_name_may_be_lost_with_its_synced_file_and_a_rename_is_whole() {
        let named = [Op::Create(a()), write(0, vec![1]), Op::Sync(a())];
        let found = images(&after(&named));
        assert!(found.contains(&Files::new()) && found.contains(&Files::from([(a(), vec![1])])));
        let renamed = [&named[..], &[Op::SyncDirectory, Op::Rename(a(), "b".to_owned())]].concat();
        let mut names: Vec<Vec<String>> =
            images(&after(&renamed)).into_iter().map(|files| files.into_keys().collect()).collect();
        names.sort();
        assert_eq!(names, [["a"], ["b"]]);
    }

    #[test]
    fn a_length_may_be_there_without_its_bytes_and_bytes_without_their_length() {
        let ops = [Op::Create(a()), Op::SyncDirectory, Op::SetLen(a(), 4), write(1, vec![7; 2])];
        let mut contents: Vec<_> =
            images(&after(&ops)).into_iter().map(|files| files[&a()].clone()).collect();
        contents.sort();
        let expected: [&[u8]; 4] = [&[], &[0, 0, 0, 0], &[0, 7, 7], &[0, 7, 7, 0]];
        assert_eq!(contents, expected);
    }

    #[test]
    fn a_write_may_be_torn_at_sectors_and_at_pages_alone() {
        let zeros = vec![0; 8192];
        let ops =
            [Op::Create(a()), write(0, zeros), Op::Sync(a()), Op::SyncDirectory, write(256, vec![9; 7936])];
        let mut torn = 0;
        for image in images(&after(&ops)) {
            let (_, content) = image.first_key_value().expect("the file is durable");
            assert!(content[..256].iter().all(|&byte| byte == 0), "bytes outside of the write");
            let sectors = content[256..512].chunks(256).chain(content[512..].chunks(512));
            assert!(sectors.clone().all(|sector| sector.iter().all(|&byte| byte == sector[0])));
            let kept = sectors.filter(|sector| sector[0] == 9).count();
            torn += usize::from(kept > 0 && kept < 16);
        }
        assert!(torn > 50, "{torn} images with a part of the write");
    }

    #[test]
    fn what_a_failed_sync_was_for_stays_uncertain() {
        let ops = [
            Op::Create(a()),
            Op::SyncDirectory,
            write(0, vec![1]),
            Op::FailedSync(a()),
            write(1, vec![2]),
            Op::Sync(a()),
        ];
        let mut contents: Vec<_> =
            images(&after(&ops)).into_iter().map(|files| files[&a()].clone()).collect();
        contents.sort();
        assert_eq!(contents, [vec![0, 2], vec![1, 2]]);
    }
}
